"""`itae run --profile DIR`: records where training steps spend their time, for TensorBoard and Perfetto."""

import tempfile
from pathlib import Path

import jax

from itae_jax import files

_FIRST_CALL = 3  # earlier ones compile
_STEPS = 5  # or those of one call, if it takes more: the trace holds every kernel of every step


class Profile:
    """Records a few steps of an early call to the devices.

    Open the directory with TensorBoard, or perfetto_trace.json.gz in it with https://ui.perfetto.dev.
    RequestError if it cannot be written.
    """

    def __init__(self, directory: Path):
        with files.writing(directory, "--profile"):
            directory.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=directory).close()
        self._directory, self._calls, self._steps, self._is_recording = directory, 0, 0, False
        self.is_written = False

    def after_call(self, metrics: dict[str, jax.Array]) -> None:
        """Starts or stops recording; call after each call to the devices, with its metrics."""
        self._calls += 1
        if self._is_recording:
            self._steps += len(metrics["loss"])
            if self._steps >= _STEPS:
                jax.block_until_ready(metrics)
                self.stop()
        elif self._calls == _FIRST_CALL:
            jax.block_until_ready(metrics)
            jax.profiler.start_trace(self._directory, create_perfetto_trace=True)
            self._is_recording = True

    def stop(self) -> None:
        """Writes what has been recorded, if anything."""
        if self._is_recording:
            jax.profiler.stop_trace()
            self._is_recording, self.is_written = False, True

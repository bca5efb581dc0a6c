"""`itae run --profile DIR`: where the time of training steps goes, for TensorBoard and Perfetto."""

from pathlib import Path

import jax

from itae_jax.errors import RequestError

_FROM = 3  # the first calls compile
_STEPS = 5  # or as many as one call takes: the files hold every kernel of every step


class Profile:
    """Records some steps of an early call to the devices, or of several.

    TensorBoard opens the directory, https://ui.perfetto.dev the file perfetto_trace.json.gz in it.
    """

    def __init__(self, directory: Path):
        if directory.exists() and not directory.is_dir():
            raise RequestError(f"--profile {directory}: is a file; name a directory")
        self._directory, self._calls, self._steps, self._is_recording = directory, 0, 0, False
        self.is_written = False

    def after_call(self, losses: jax.Array) -> None:
        """To be told after each call the losses, one a step, that it will give."""
        self._calls += 1
        if self._is_recording:
            self._steps += len(losses)
            if self._steps >= _STEPS:
                jax.block_until_ready(losses)
                self.stop()
        elif self._calls == _FROM:
            jax.block_until_ready(losses)
            jax.profiler.start_trace(self._directory, create_perfetto_trace=True)
            self._is_recording = True

    def stop(self) -> None:
        """Writes what is recorded so far, if there is any."""
        if self._is_recording:
            jax.profiler.stop_trace()
            self._is_recording, self.is_written = False, True

"""`itae run --profile DIR`: where the time of training steps goes, for TensorBoard and Perfetto."""

from pathlib import Path

import jax

from itae_jax.errors import RequestError

_FROM, _CALLS = 3, 5  # the first calls compile


class Profile:
    """Records some of the first calls to the devices.

    TensorBoard opens the directory, https://ui.perfetto.dev the file perfetto_trace.json.gz in it.
    """

    def __init__(self, directory: Path):
        if directory.exists() and not directory.is_dir():
            raise RequestError(f"--profile {directory}: is a file; name a directory")
        self._directory, self._calls, self._is_recording = directory, 0, False
        self.is_written = False

    def after_call(self, result) -> None:
        """To be told after each call, with what it will give."""
        self._calls += 1
        if self._calls == _FROM:
            jax.block_until_ready(result)
            jax.profiler.start_trace(self._directory, create_perfetto_trace=True)
            self._is_recording = True
        elif self._is_recording and self._calls == _FROM + _CALLS:
            jax.block_until_ready(result)
            self.stop()

    def stop(self) -> None:
        """Writes what is recorded so far, if there is any."""
        if self._is_recording:
            jax.profiler.stop_trace()
            self._is_recording, self.is_written = False, True

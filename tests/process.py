"""Processes that run `itae` with a tiny network, forked from one that has imported it already."""

import multiprocessing
import os
import subprocess
import sys
import tempfile

_FORKING = multiprocessing.get_context("forkserver")
_FORKING.set_forkserver_preload(["itae_jax.runs.sweep", "itae_jax.report.run_page", "sklearn.datasets"])


def _run(devices, arguments, environment, outputs):
    os.environ.clear()
    os.environ.update(environment)
    os.environ["XLA_FLAGS"] += f" --xla_force_host_platform_device_count={devices}"
    sys.argv[1:] = arguments
    for descriptor, path in enumerate(outputs, 1):
        os.dup2(os.open(path, os.O_WRONLY), descriptor)
    import jax
    import tiny_net

    from itae_jax import cli, models, parallel

    jax.config.update("jax_enable_x64", True)
    models.build = tiny_net.build
    parallel.SECONDS_OF_SILENCE = 5
    parallel.SECONDS_TO_JOIN = 20
    cli.entry()


class Process:
    """`itae` with these arguments on so many virtual CPU devices; has methods of subprocess.Popen."""

    def __init__(self, devices, *arguments):
        self._outputs = [tempfile.NamedTemporaryFile("r") for _ in range(2)]  # noqa: SIM115
        names = [file.name for file in self._outputs]
        given = devices, [*map(str, arguments)], dict(os.environ), names
        self._process = _FORKING.Process(target=_run, args=given)
        self._process.start()
        self.kill = self._process.kill

    @property
    def returncode(self):
        return self._process.exitcode

    def poll(self):
        return self.returncode

    def send_signal(self, number):
        os.kill(self._process.pid, number)

    def communicate(self, timeout=None):
        self._process.join(timeout)
        if self.returncode is None:
            raise subprocess.TimeoutExpired("itae", timeout)
        for file in self._outputs:
            file.seek(0)
        return tuple(file.read() for file in self._outputs)

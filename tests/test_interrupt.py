"""Signals are put off until they can do no harm."""

import signal
import subprocess
import sys
import threading
import time

import pytest

from itae_jax.training import signals as interrupt

BOTH = pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])


@BOTH
def test_a_signal_is_an_exception_and_the_old_handlers_come_back(number):
    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt), interrupt.as_exception():
        signal.raise_signal(number)
    assert signal.getsignal(number) is before


@BOTH
def test_the_first_signal_asks_and_the_second_ends(number):
    with pytest.raises(KeyboardInterrupt), interrupt.deferred() as stop:
        assert not stop.requested
        signal.raise_signal(number)
        assert stop.requested
        assert signal.getsignal(number) is signal.SIG_DFL
    script = (
        "import os, signal, time\n"
        "from itae_jax import interrupt\n"
        "with interrupt.deferred():\n"
        f"    for _ in range(2): os.kill(os.getpid(), {int(number)})\n"
        "    time.sleep(20)"
    )
    assert subprocess.run([sys.executable, "-c", script]).returncode == -number


@BOTH
def test_an_import_under_way_is_finished_first(number, tmp_path, monkeypatch):
    """numpy, for one, makes an ImportError of a KeyboardInterrupt."""
    (tmp_path / "slow_to_import.py").write_text(
        "import signal, time\n"
        f"signal.raise_signal({int(number)})\n"
        "time.sleep(0.2)\n"  # the signal comes again, and is put off again
        "done = True\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(KeyboardInterrupt), interrupt.as_exception():
        import slow_to_import

        assert slow_to_import.done
        time.sleep(5)
    assert sys.modules.pop("slow_to_import").done


def test_in_another_thread_nothing_changes():
    before, seen = signal.getsignal(signal.SIGINT), []

    def work():
        with interrupt.as_exception(), interrupt.deferred() as stop:
            seen.append((signal.getsignal(signal.SIGINT), stop.requested))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [(before, False)]


@pytest.mark.parametrize(("code", "printed"), [(130, ["said"]), (2, ["said", "finalised"])])
def test_an_interrupted_process_leaves_without_pythons_own_end(code, printed):
    """In which threads of XLA that still compute would crash."""
    program = (
        "import atexit; from itae_jax import cli; atexit.register(print, 'finalised'); print('said'); "
        f"cli.main = lambda: {code}; cli.entry()"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stdout.split()) == (code, printed), done.stderr

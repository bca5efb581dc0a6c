"""Signals stop a process when it can do no harm, and how a process ends."""

import signal
import subprocess
import sys
import threading

import pytest

from itae_jax.training import signals

BOTH = pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])


def run(program):
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    return done.returncode, done.stdout, done.stderr


@BOTH
def test_as_exception_raises_keyboard_interrupt_and_restores_the_handlers(number):
    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt), signals.as_exception():
        signal.raise_signal(number)
    assert signal.getsignal(number) is before


@BOTH
def test_as_exception_ends_the_process_during_an_import(number, tmp_path):
    (tmp_path / "slow_to_import.py").write_text(
        f"import signal\ntry: signal.raise_signal({int(number)})\nexcept BaseException: raise ImportError\n"
    )
    code, _, errors = run(
        f"import sys; sys.path.append({str(tmp_path)!r})\n"
        "from itae_jax.training import signals\n"
        "with signals.as_exception():\n"
        "    import slow_to_import"
    )
    assert (code, errors.splitlines()) == (130, ["itae: interrupted"])


@BOTH
def test_deferred_requests_a_stop_first_and_ends_the_process_on_the_second_signal(number):
    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt), signals.deferred() as outer:
        with signals.deferred() as inner:
            assert not signals.requested()
            signal.raise_signal(number)
            assert inner.requested and signals.requested()
        assert outer is inner  # and nothing is raised before its end
    assert not signals.requested()
    assert signal.getsignal(number) is before
    code, _, _ = run(
        "import signal\n"
        "from itae_jax.training import signals\n"
        "with signals.deferred():\n"
        f"    for _ in range(2): signal.raise_signal({int(number)})"
    )
    assert code == -number


@pytest.mark.parametrize("is_other_thread", [True, False])
def test_deferred_changes_nothing_in_another_thread_or_if_not_wanted(is_other_thread):
    before, seen = signal.getsignal(signal.SIGINT), []

    def work():
        with signals.deferred(wanted=is_other_thread) as stop:
            seen.append((signal.getsignal(signal.SIGINT), stop.requested))

    thread = threading.Thread(target=work)
    thread.start() if is_other_thread else work()
    if is_other_thread:
        thread.join()
    assert seen == [(before, False)]


@pytest.mark.parametrize(
    ("main", "code", "printed", "error"),
    [
        ("lambda: 0", 0, ["printed", "finalised"], ""),
        ("lambda: 2", 2, ["printed"], ""),
        ("lambda: 130", 130, ["printed"], ""),
        ("lambda: 1 // 0", 1, ["printed"], "ZeroDivisionError"),
    ],
)
def test_entry_skips_normal_shutdown_unless_the_command_succeeded(main, code, printed, error):
    found, output, errors = run(
        "import atexit; from itae_jax import cli; atexit.register(print, 'finalised'); print('printed'); "
        f"cli.main = {main}; cli.entry()"
    )
    assert (found, output.split()) == (code, printed)
    assert error in errors and bool(error) == bool(errors)

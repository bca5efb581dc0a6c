"""Calls of `itae` by the scripts of experiments/: signals, ends, and what is left of them."""

import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

pytestmark = pytest.mark.usefixtures("scripts")


@pytest.fixture
def told(tmp_path, monkeypatch):
    """The file that `itae` writes to here: a line when it starts, one for each signal; it saves for a while."""
    script, told = tmp_path / "python", tmp_path / "told"
    script.write_text(
        "#!/bin/sh\n"
        f"trap 'echo INT >> {told}; sleep 0.3; exit 130' INT\n"
        f"trap 'echo TERM >> {told}; sleep 0.3; exit 130' TERM\n"
        f"echo start >> {told}\n"
        'if [ "$3" = killed ]; then kill -KILL $$; fi\n'
        'if [ "$3" = short ]; then exit 7; fi\n'
        "while true; do sleep 0.05; done\n"
    )
    script.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(script))
    return told


@pytest.fixture(autouse=True)
def heeded():
    """Signals do something at first; what a shell starts in the background ignores some."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, signal.default_int_handler) for number in numbers}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def send(number, told, started=1):
    """Sends this process a signal once so many children have started."""

    def wait():
        while not told.exists() or told.read_text().split().count("start") < started:
            time.sleep(0.01)
        os.kill(os.getpid(), number)

    threading.Thread(target=wait).start()


@pytest.mark.parametrize(
    ("number", "handed_on"),
    [(signal.SIGINT, "INT"), (signal.SIGTERM, "TERM"), (signal.SIGHUP, "TERM")],
)
def test_a_signal_is_handed_on_once_and_what_is_saved_waited_for(told, number, handed_on):
    import children

    before = signal.getsignal(number)
    with children.children() as processes:
        send(number, told)
        assert processes.run(["long"]) == children.INTERRUPTED
        assert told.read_text().split() == ["start", handed_on]
        assert processes.run(["long"]) == children.INTERRUPTED  # and nothing more is started
        assert told.read_text().split() == ["start", handed_on]
    assert signal.getsignal(number) == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_that_comes_while_a_child_is_made_reaches_it_once(told, monkeypatch, number):
    import children

    class Popen(subprocess.Popen):
        def __init__(self, *arguments, **options):
            super().__init__(*arguments, **options)
            while not told.exists():
                time.sleep(0.01)
            os.kill(os.getpid(), number)

    monkeypatch.setattr(subprocess, "Popen", Popen)
    with children.children() as processes:
        assert processes.run(["long"]) == children.INTERRUPTED
    assert told.read_text().split() == ["start", number.name.removeprefix("SIG")]


def test_all_that_run_side_by_side_are_told(told):
    import children

    with children.children() as processes, ThreadPoolExecutor(3) as pool:
        send(signal.SIGTERM, told, started=3)
        codes = list(pool.map(processes.run, [["long"]] * 3))
    assert codes == [children.INTERRUPTED] * 3
    assert sorted(told.read_text().split()) == ["TERM"] * 3 + ["start"] * 3


def test_the_end_is_kept_and_exit_codes_are_those_of_the_child(told):
    import children

    with children.children() as processes:
        assert processes.run(["long"], time.monotonic() + 0.3) is None
        assert told.read_text().split() == ["start", "TERM"]
        assert processes.run(["long"], time.monotonic() - 1) is None
        assert told.read_text().split() == ["start", "TERM"]
        assert processes.run(["short"]) == 7
        assert processes.run(["killed"]) == -signal.SIGKILL


def test_what_nohup_ignores_stays_ignored(told):
    import children

    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with children.children():
            assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)

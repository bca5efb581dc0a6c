"""Lines of progress where there is no terminal: one for every tenth of a training, with the time left."""

import pytest

from itae_jax import progress


@pytest.fixture
def clock(monkeypatch):
    """A clock that tests set: clock.now, in seconds."""

    class Clock:
        now = 1000.0

    monkeypatch.setattr(progress.time, "monotonic", lambda: Clock.now)
    return Clock


def train(bar, clock, name, epochs, seconds=60):
    for epoch in epochs:
        clock.now += seconds
        bar.epoch(name, epoch, 0.5, 0.1)


def test_progress_prints_each_tenth_with_the_time_left_of_all_trainings(clock, capsys):
    with progress.ConsoleProgress() as bar:
        bar.start(2, 20)
        train(bar, clock, "cat", [1], seconds=100)  # compiles
        train(bar, clock, "cat", range(2, 21))
        bar.finished("cat  AUROC 0.5")
        train(bar, clock, "dog", range(1, 21))
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == "1/2  cat  epoch 2/20  loss 0.5000  learning rate 0.1  38 min left"
    assert lines[10] == "1/2  cat  epoch 20/20  loss 0.5000  learning rate 0.1  20 min left"
    assert lines[11] == "cat  AUROC 0.5"
    assert lines[20] == "2/2  dog  epoch 18/20  loss 0.5000  learning rate 0.1  2 min left"
    assert lines[21] == "2/2  dog  epoch 20/20  loss 0.5000  learning rate 0.1"
    assert len(lines) == 22


@pytest.mark.parametrize(
    ("seconds", "left"), [(1, "4 s left"), (30, "2 min left"), (3600, "4.0 h left"), (0, "0 s left")]
)
def test_progress_gives_the_time_left_in_a_suitable_unit(seconds, left, clock, capsys):
    with progress.ConsoleProgress() as bar:
        bar.start(1, 6)
        train(bar, clock, "", (1, 2), seconds)
    assert capsys.readouterr().out.splitlines()[-1].endswith(f"  {left}")


def test_progress_prints_parts_of_an_epoch_after_two_minutes_of_silence(clock, capsys):
    with progress.ConsoleProgress() as bar:
        bar.start(1, 3)
        clock.now += 119
        bar.step("cat", 0.5)
        clock.now += 1
        bar.step("cat", 0.6)
    assert capsys.readouterr().out.splitlines()[1:] == ["cat  epoch 0.60/3  24 s left"]


def test_progress_estimates_by_the_epochs_that_were_computed_here(clock, capsys):
    with progress.ConsoleProgress() as bar:
        bar.start(3, 50)
        train(bar, clock, "cat", range(1, 51))
        bar.finished("")
        train(bar, clock, "dog", range(1, 6))
        assert capsys.readouterr().out.endswith("  1.6 h left\n")
        bar.finished("failed")
        train(bar, clock, "frog", range(1, 6))
        assert capsys.readouterr().out.endswith("  45 min left\n")
    with progress.ConsoleProgress() as bar:
        bar.start(2, 50)
        clock.now += 60
        train(bar, clock, "cat", range(31, 51))  # resumed from a checkpoint
        bar.finished("")
        train(bar, clock, "dog", range(1, 11))
        assert capsys.readouterr().out.endswith("  40 min left\n")

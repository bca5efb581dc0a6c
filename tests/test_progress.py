"""What is told while trainings go on, where there is no terminal: a line for every tenth, and the time left."""

import pytest

from itae_jax import progress


@pytest.fixture
def clock(monkeypatch):
    """A clock that tests set: clock.now, in seconds."""

    class Clock:
        now = 1000.0

    monkeypatch.setattr(progress.time, "monotonic", lambda: Clock.now)
    return Clock


def test_a_sweep_tells_how_long_all_of_it_still_takes(clock, capsys):
    row = {"auroc": "0.5", "note": "", "train_seconds": "", "normal_class_name": "cat", "seed": "0"}
    with progress.SweepProgress() as bar:
        bar.start(2, 20)
        for epoch in range(1, 21):
            clock.now += 100 if epoch == 1 else 60  # the first one compiles
            bar.epoch("cat", 0, epoch, 0.5, 0.1)
        bar.finished(row)
        for epoch in range(1, 21):
            clock.now += 60
            bar.epoch("dog", 0, epoch, 0.5, 0.1)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "2 trainings of 20 epochs; compiling first, half a minute or more"
    assert lines[1] == "1/2  class cat  seed 0  epoch 2/20  loss 0.5000  rate 0.1  38 min left"
    assert lines[10] == "1/2  class cat  seed 0  epoch 20/20  loss 0.5000  rate 0.1  20 min left"
    assert lines[11] == "class cat  seed 0  AUROC 0.5000"
    assert lines[20] == "2/2  class dog  seed 0  epoch 18/20  loss 0.5000  rate 0.1  2 min left"
    assert lines[21] == "2/2  class dog  seed 0  epoch 20/20  loss 0.5000  rate 0.1"
    assert len(lines) == 22


@pytest.mark.parametrize(
    ("seconds", "told"), [(1, "4 s left"), (30, "2 min left"), (3600, "4.0 h left"), (0, "0 s left")]
)
def test_the_time_left_is_in_units_that_suit_it(seconds, told, clock, capsys):
    with progress.FitProgress() as bar:
        bar.start(6)
        for epoch in (1, 2):
            clock.now += seconds
            bar.epoch(epoch, 0.5, 0.1)
    assert capsys.readouterr().out.splitlines()[-1].endswith(f"  {told}")


def test_epochs_that_take_long_are_told_of_while_they_last(clock, capsys):
    with progress.SweepProgress() as bar:
        bar.start(1, 3)
        for epoch in range(3):
            for sixth in range(1, 7):
                clock.now += 60
                bar.step("cat", 0, epoch + sixth / 6)
            bar.epoch("cat", 0, epoch + 1, 0.5, 0.1)
    lines = capsys.readouterr().out.splitlines()[1:]
    assert lines[:4] == [
        "1/1  class cat  seed 0  epoch 0.33/3  16 min left",
        "1/1  class cat  seed 0  epoch 0.67/3  14 min left",
        "1/1  class cat  seed 0  epoch 1.00/3  12 min left",
        "1/1  class cat  seed 0  epoch 1/3  loss 0.5000  rate 0.1  12 min left",
    ]
    assert len(lines) == 12
    with progress.FitProgress() as bar:
        bar.start(2)
        clock.now += 119
        bar.step(0.5)
        clock.now += 1
        bar.step(0.6)
    assert capsys.readouterr().out.splitlines()[1:] == ["epoch 0.60/2  14 s left"]


def test_only_epochs_that_were_computed_tell_the_pace(clock, capsys):
    row = {"auroc": "", "note": "failed", "train_seconds": "", "normal_class_name": "cat", "seed": "0"}

    def train(first, last):
        for epoch in range(first, last + 1):
            clock.now += 60
            bar.epoch("cat", 0, epoch, 0.5, 0.1)
        return capsys.readouterr().out.splitlines()[-1]

    with progress.SweepProgress() as bar:
        bar.start(3, 50)
        train(1, 50)
        bar.finished(row)
        assert train(1, 5).endswith("  1.6 h left")
        bar.finished(row)  # it diverged
        assert train(1, 5).endswith("  45 min left")
        assert train(6, 10).endswith("  40 min left")
    with progress.SweepProgress() as bar:
        bar.start(2, 50)
        clock.now += 60
        train(31, 50)  # gone on with from a checkpoint
        bar.finished(row)
        assert train(1, 10).endswith("  40 min left")


def test_one_epoch_alone_tells_no_time(clock, capsys):
    with progress.SweepProgress() as bar:
        bar.start(1, 1)
        bar.epoch("cat", 0, 1, 0.5, 0.1)
    assert "left" not in capsys.readouterr().out

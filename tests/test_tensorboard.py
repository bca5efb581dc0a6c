"""`--tensorboard`: each epoch stands once in the event files, and files of others stay."""

import json
import shutil
import struct
import sys

import pytest
from conftest import SMALL_FIT, SMALL_RUN, contents, save_images

from itae_jax import cli, progress

pytest.importorskip("tensorboardX")

pytestmark = pytest.mark.usefixtures("tiny_network")
LONGER = ["train.epochs=3", "train.checkpoint_minutes=0"]


def run(out, scalars, *classes):
    command = ["run", "digits", "--classes", ",".join(classes), "--out", out, "--tensorboard", scalars]
    return cli.main([*map(str, command), "--set", *SMALL_RUN, *LONGER])


def scalars_of(path):
    """All (epoch, name, value) of an event file, in its order."""
    from tensorboardX.proto.event_pb2 import Event
    from tensorboardX.record_writer import masked_crc32c

    data, found = path.read_bytes(), []
    while data:
        length, of_length = struct.unpack("<QI", data[:12])
        content, (of_content,) = data[12 : 12 + length], struct.unpack("<I", data[12 + length : 16 + length])
        assert (of_length, of_content) == (masked_crc32c(data[:8]), masked_crc32c(content))
        event, data = Event.FromString(content), data[16 + length :]
        found += [(event.step, value.tag, value.simple_value) for value in event.summary.value]
    return found


def expected(metrics_file, **job):
    """The same from a metrics.jsonl."""
    entries = [json.loads(line) for line in metrics_file.read_text().splitlines()]
    entries = [entry for entry in entries if entry.items() >= job.items()]
    assert [entry["epoch"] for entry in entries] == [1, 2, 3]
    return [
        (entry["epoch"], name, pytest.approx(value))
        for entry in entries
        for name, value in entry.items()
        if name not in ("epoch", *job)
    ]


def event_file(directory):
    (path,) = directory.glob("*tfevents*")
    return path


@pytest.fixture
def interrupting(monkeypatch):
    """Interrupts the training `name` at an epoch, while the block runs."""

    def epoch(of_name, number):
        def interrupt(self, name, epoch, loss, rate):
            if of_name in name and epoch == number:
                raise KeyboardInterrupt

        monkeypatch.setattr(progress.ConsoleProgress, "epoch", interrupt)

    return epoch


def test_each_epoch_of_a_resumed_run_stands_once_in_its_event_file(tmp_path, interrupting):
    out, scalars = tmp_path / "out", tmp_path / "scalars"
    others = scalars / "class_8" / "seed_0" / "events.out.tfevents.1.other"
    others.parent.mkdir(parents=True)
    others.write_bytes(b"of somebody else")
    interrupting("8", 3)
    assert run(out, scalars, "6", "8") == 130
    ours = scalars / "class_8" / "seed_0" / "events.out.tfevents.itae_jax"
    assert {step for step, *_ in scalars_of(ours)} == {1, 2}
    with ours.open("ab") as file:
        file.write(b"cut sh")  # as a kill in the middle of a record leaves it
    interrupting("none", 0)
    assert run(out, scalars, "6", "8") == 0
    for normal_class in (6, 8):
        path = scalars / f"class_{normal_class}" / "seed_0" / ours.name
        *epochs, (step, name, auroc) = scalars_of(path)
        assert epochs == expected(out / "metrics.jsonl", normal_class=normal_class, seed=0)
        assert {"loss", "learning_rate"} <= {name for _, name, _ in epochs}
        assert (step, name) == (3, "final_auroc") and 0 <= auroc <= 1
    assert others.read_bytes() == b"of somebody else"


def test_a_run_that_is_resumed_with_scalars_has_those_of_the_earlier_epochs(tmp_path, interrupting):
    out = tmp_path / "out"
    interrupting("6", 3)
    assert cli.main(["run", "digits", "--classes", "6", "--out", str(out), "--set", *SMALL_RUN, *LONGER]) == 130
    interrupting("none", 0)
    assert run(out, tmp_path / "scalars", "6") == 0
    *epochs, _ = scalars_of(event_file(tmp_path / "scalars" / "class_6" / "seed_0"))
    assert epochs == expected(out / "metrics.jsonl", normal_class=6, seed=0)


def test_each_epoch_of_a_resumed_fit_stands_once_in_its_event_file(tmp_path, interrupting):
    images, out, scalars = save_images(tmp_path / "good", 20), tmp_path / "model", tmp_path / "scalars"
    command = ["fit", str(images), "--out", str(out), *SMALL_FIT, *LONGER, "--epochs", "3"]
    command += ["--tensorboard", str(scalars)]
    interrupting("", 3)
    assert cli.main(command) == 130
    interrupting("none", 0)
    assert cli.main(command) == 0
    assert scalars_of(event_file(scalars / "model")) == expected(out / "metrics.jsonl")


def test_a_directory_with_the_scalars_of_another_run_is_refused_before_training(tmp_path, refused):
    assert run(tmp_path / "one", tmp_path / "scalars", "6") == 0
    before, command = contents(tmp_path / "scalars"), ["run", "digits", "--out", tmp_path / "two"]
    line = refused(*command, "--tensorboard", tmp_path / "scalars", "--set", *SMALL_RUN)
    assert f"holds the scalars of {tmp_path / 'one'}" in line
    assert contents(tmp_path / "scalars") == before and not (tmp_path / "two").exists()


def test_scalars_that_cannot_be_written_cost_no_training(tmp_path, monkeypatch, caplog):
    def lose(self, name, epoch, loss, rate):
        shutil.rmtree(tmp_path / "scalars", ignore_errors=True)

    monkeypatch.setattr(progress.ConsoleProgress, "epoch", lose)
    assert run(tmp_path / "out", tmp_path / "scalars", "6") == 0
    (warning,) = (record.getMessage() for record in caplog.records if record.name.startswith("itae_jax"))
    assert "--tensorboard" in warning


def test_scalars_inside_the_model_are_refused(tmp_path, refused):
    images, out = save_images(tmp_path / "good", 20), tmp_path / "model"
    assert "lies in --out" in refused("fit", images, "--out", out, *SMALL_FIT, "--tensorboard", out / "x")
    assert not out.exists()


def test_without_the_package_the_request_is_refused_before_anything_is_written(tmp_path, refused, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    images, out = save_images(tmp_path / "good", 20), tmp_path / "out"
    for command in (["run", "digits"], ["fit", images]):
        line = refused(*command, "--out", out, "--tensorboard", tmp_path / "scalars")
        assert "pip install tensorboardX" in line
    assert not out.exists() and not (tmp_path / "scalars").exists()

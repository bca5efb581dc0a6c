"""The shipped experiments are valid, and the scripts beside them ask for what there is."""

import argparse
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import save_images, training_tiny_networks

from itae_jax import arguments, experiment, methods
from itae_jax.bench import cases, timing
from itae_jax.runs import read

SCRIPTS = Path(__file__).parent.parent / "experiments" / "scripts"

pytestmark = pytest.mark.usefixtures("scripts")


@pytest.mark.parametrize("name", experiment.shipped())
def test_shipped_experiments_can_be_reduced_and_name_their_command_and_table(name):
    path = experiment.find(name)
    assert f"itae run {name}" in path.read_text()
    for variant, one in experiment.load(path, ["train.epochs=1", "data.limit_test=9"]).items():
        assert (one.name, one.variant) == (name, variant)
        assert not one.paper_table or read.read_paper(path.parent / "paper" / f"{one.paper_table}.csv")


def requests(capsys, *words):
    """What reproduce.py would ask of `itae`: (arguments, experiments)."""
    import reproduce

    assert reproduce.main(["--list", *words]) == 0
    for line in capsys.readouterr().out.splitlines():
        asked = arguments.build().parse_args(line.split()[1:])
        yield asked, experiment.load(experiment.find(asked.experiment), asked.set, asked.variants)


def test_reproduce_reduces_every_table_and_figure(capsys):
    found = list(requests(capsys, "--root", "DIR", "cifar10=OTHER"))
    names = {asked.experiment for asked, _ in found}
    assert names == {name for name in experiment.shipped() if name.startswith(("table", "figure"))}
    assert len({asked.out for asked, _ in found}) == len(found)
    for _, variants in found:
        for one in variants.values():
            assert getattr(one.method, "width", 16) == 16
            assert one.data.root == ("OTHER" if one.data.name == "cifar10" else "DIR")


def test_reproduce_finds_the_trainings_of_each_class_and_refuses_unknown_data_sets(capsys, tmp_path):
    import reproduce

    for name in ("table1_cifar10_0", "table1_cifar10_9", "table1_cifar10_ae"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "results.csv").touch()
    words = ["table5", "--full", "--at-once", "8", "--out", str(tmp_path), "--root", "cifar10=/d/a=b"]
    ((asked, variants),) = requests(capsys, *words)
    assert {path.name for path in asked.reuse} == {"table1_cifar10_0", "table1_cifar10_9"}
    assert {one.data.root for one in variants.values()} == {"/d/a=b"}
    with pytest.raises(SystemExit):
        reproduce.main(["--list", "--root", "cifar=DIR"])
    assert "cifar10" in capsys.readouterr().err


def test_reproduce_at_full_size_gives_each_class_a_directory(capsys):
    assert len(list(requests(capsys, "table1_mnist", "--full", "--at-once", "4"))) == 10  # an exact name
    found = list(requests(capsys, "table1_mn", "--full", "--at-once", "4"))
    assert len(found) == 80  # ITAE, the plain autoencoder and six other systems
    assert len({asked.out for asked, _ in found}) == 80
    assert {one.method.NAME for _, variants in found for one in variants.values()} > {"itae", "geotrans", "pca"}
    assert {tuple(asked.classes) for asked, _ in found} == {(str(number),) for number in range(10)}
    assert all(getattr(one.method, "width", 64) == 64 for _, variants in found for one in variants.values())


@pytest.mark.parametrize("reduced", [True, False])
def test_accelerator_asks_for_what_itae_understands(reduced, capsys, tmp_path):
    import accelerator

    options = argparse.Namespace(root=["DIR"], out=tmp_path, at_once=2, reduced=reduced)
    for script, *words in accelerator.commands(options):
        if script == "-m":
            assert cases.experiments(arguments.build().parse_args(words[1:]).set)
        else:
            found = list(requests(capsys, *words))
            assert len(found) in (5, 10) and {one.method.NAME for _, of in found for one in of.values()} == {
                "itae"
            }
    (tmp_path / "bench_float32.json").touch()
    assert len(list(accelerator.commands(options))) == (3 if reduced else 4)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_reproduce_hands_a_signal_on_once_and_starts_nothing_more(number, tmp_path):
    log = tmp_path / "log"
    fake = tmp_path / "itae_jax"
    fake.mkdir()
    (fake / "__main__.py").write_text(
        "import signal, sys, time\n"
        f"log = open({str(log)!r}, 'a', buffering=1)\n"
        "def stop(number, frame):\n"
        "    print(number, file=log); time.sleep(0.5); sys.exit(130)\n"
        "signal.signal(signal.SIGINT, stop); signal.signal(signal.SIGTERM, stop)\n"
        "print('start', file=log); time.sleep(60)\n"
    )
    (fake / "__init__.py").touch()
    command = [sys.executable, str(SCRIPTS / "reproduce.py"), "table1", "--at-once", "2"]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, env={"PYTHONPATH": str(tmp_path)})
    while not log.exists() or log.read_text().count("start") < 2:
        time.sleep(0.05)
    process.send_signal(number)
    process.communicate(timeout=60)
    assert process.returncode == 130
    assert sorted(log.read_text().split()) == sorted(["start", str(number.value)] * 2)


def test_layers_are_computed_alike_in_both_ways(monkeypatch):
    import layers

    monkeypatch.setattr(timing, "SECONDS_PER_TURN", 0.0)
    rng = np.random.default_rng(0)
    for case in layers.cases()[2:7:2]:  # some of each kind, none that is large
        arrays = [rng.standard_normal(shape, np.float32) for shape in case.shapes]
        expected = np.asarray(case.xla(*arrays))
        np.testing.assert_allclose(case.ours(*arrays), expected, atol=1e-5 * np.abs(expected).max())
    assert layers.measure(case, 1).keys() == {"layer", "xla_ms", "ours_ms"}


def test_scaling_compares_the_losses_of_one_training():
    import scaling

    with training_tiny_networks():
        alone = scaling.losses(1, "float64", 5)
        found = scaling.difference(2, "float64", alone)
    assert len(set(alone)) == 5
    assert found["first"] <= found["largest"] < 1e-9


def test_a_fit_with_any_transform_is_rated_while_it_trains(scripts, tmp_path, monkeypatch):
    import follow_fit

    for name, offered in (("ensemble", []), ("pca", [("whole images", {})])):  # PCA trains nothing
        offer = staticmethod(lambda *_, offered=offered: offered)
        monkeypatch.setattr(methods.config_class(name), "candidates", offer)
    monkeypatch.setattr(follow_fit, "RESULTS", tmp_path / "follow_fit.json")
    for place, count in (("train/good", 50), ("test/good", 3), ("test/scratch", 3)):
        save_images(tmp_path / "set" / place, count, size=(32, 32))
    arguments = [str(tmp_path / "set"), "2", "--set", "method.transform=rotate"]
    monkeypatch.setattr("sys.argv", ["follow_fit.py", *arguments])
    follow_fit.main()
    (row,) = json.loads((tmp_path / "follow_fit.json").read_text())
    assert [point["epoch"] for point in row["found"]] == [1, 2]
    assert row["transform"] == "rotate"
    assert all(0 <= point[name] <= 1 for point in row["found"] for name in ("surrogates", "test"))


def test_time_shares_are_those_of_all_devices():
    import time_shares

    def event(start, seconds, **arguments):
        return {"ts": start, "dur": seconds, "args": arguments}

    events = [event(0, 6, hlo_op="ynn_fusion.3"), event(6, 2, hlo_op="psum.1"), event(8, 2, hlo_op="add.1")]
    events += [event(0, 4, hlo_op="dot.2"), event(4, 1, hlo_op="copy.7"), event(0, 99)]  # the second device
    found = time_shares.shares(events, devices=2)
    assert found.pop("not in the profile") == pytest.approx(0.25)
    assert list(found.values()) == pytest.approx([0.5, 0.1, 0.05, 0.1])


def test_scratches_are_four_pixels_wide_and_darker_or_brighter(rng):
    import scratches

    for _ in range(8):
        image = scratches.texture(rng)
        change = scratches.scratched(image, rng) - image
        rows, columns = np.nonzero(change)
        assert image.shape == (512, 512) and np.ptp(change[rows, columns]) < 1e-9
        assert 25 <= abs(change[rows, columns]).max() <= 50
        places = np.stack([rows, columns], 1) - [rows.mean(), columns.mean()]
        along, across = 2 * np.sqrt(3 * np.linalg.svd(places.T, full_matrices=False)[1] ** 2 / len(rows))
        assert 3 <= across <= 4.7 and 25 <= along <= 105

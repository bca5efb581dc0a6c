"""The scripts of experiments/ that run or measure several things ask for what there is."""

import json
from pathlib import Path

import numpy as np
import pytest
from conftest import training_tiny_networks

from itae_jax import arguments
from itae_jax.bench import timing as bench
from itae_jax.runs import variants

EXPERIMENTS = Path(__file__).parent.parent / "experiments"

pytestmark = pytest.mark.usefixtures("scripts")


def test_every_reduced_experiment_is_a_valid_request():
    import reduced

    for name in reduced.REDUCED:
        arguments = reduced.command(name, "DIR", Path("out"), [])
        assignments = arguments[arguments.index("--set") + 1 :]
        chosen = [arguments[arguments.index("--variants") + 1]] if "--variants" in arguments else None
        experiments = variants.load(Path(arguments[1]), assignments, chosen)
        for experiment in experiments.values():
            assert experiment.model.width == 16
            assert experiment.data.root == "DIR"


def test_reduced_covers_every_table_and_figure_of_the_paper():
    import reduced

    files = {one.file for one in reduced.REDUCED.values()}
    assert files == {path.stem for path in EXPERIMENTS.glob("[tf]*_*.py")}


def test_layers_are_computed_alike_in_both_ways(tmp_path, monkeypatch):
    import layers
    import publish_speed

    monkeypatch.setattr(bench, "_SECONDS_PER_TURN", 0.0)

    rng = np.random.default_rng(0)
    for case in layers.cases()[4::2]:  # of each kind, none that is large
        arrays = [rng.standard_normal(shape, np.float32) for shape in case.shapes]
        expected = np.asarray(case.xla(*arrays))
        difference = np.abs(np.asarray(case.ours(*arrays)) - expected).max()
        assert difference < 1e-5 * np.abs(expected).max()
    (tmp_path / "layers_cpu.json").write_text(
        json.dumps(
            {
                "environment": {"device": "1 x CPU", "versions": {"jax": "0"}, "commit": "0123"},
                "settings": {"images": 16, "dtype": "float32", "cores": 1},
                "layers": [layers.measure(case, 1) | {"xla_ms": 2.5}],
            }
        )
    )
    page = "\n".join(publish_speed.sections(tmp_path))
    assert f"| {case.name} | 2.50 | " in page


def test_what_is_measured_of_several_devices_is_of_one_training(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "")  # which the import changes
    import scaling

    monkeypatch.setattr(scaling, "STEPS", 5)
    with training_tiny_networks():
        alone = scaling.losses(1, "float64")
        found = scaling.difference(2, "float64", alone)
    assert len(alone) == 5
    assert len(set(alone)) == 5
    assert found["devices"] == 2
    assert found["largest"] < 1e-9
    monkeypatch.setattr(scaling, "losses", lambda devices, dtype: [1.1, 0.5])
    told = {"devices": 2, "dtype": "float32", "first": pytest.approx(0.1), "largest": pytest.approx(0.5)}
    assert scaling.difference(2, "float32", [1.0, 1.0]) == told


def test_later_options_prevail_and_unknown_names_are_refused():
    import reduced

    arguments = reduced.command("table4", "", Path("out"), ["--set", "train.epochs=1"])
    assert arguments[-1] == "train.epochs=1"
    assert reduced.choose(["table4", "figure3"]) == ["table4", "figure3"]
    assert reduced.choose(["table1_mnist_", "table1_mnist"]) == ["table1_mnist_ae", "table1_mnist"]
    assert reduced.choose([]) == list(reduced.REDUCED)
    for word in ("table9", ""):
        with pytest.raises(ValueError, match=f"nothing begins with '{word}'"):
            reduced.choose([word])
    assert reduced.main(["table9"]) == 2


@pytest.mark.parametrize(
    ("words", "count"),
    [([], None), (["table5"], 1), (["table1_mnist", "table5"], 2), (["table1_mnist", "figure"], 6)],
)
def test_further_options_of_reduced_experiments_go_to_each(words, count, capsys):
    import reduced

    assert reduced.main([*words, "--list", "--data", "DIR", "--seeds", "0,1", "--set", "train.epochs=1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == (count or len(reduced.REDUCED))
    assert all(line.endswith(" --seeds 0,1 --set train.epochs=1") for line in lines)
    assert all("data.root=DIR" in line for line in lines)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--classes", "0", "table4"], "names come before options: table4"),
        (["--classes", "0", "figure"], "unrecognized arguments: figure"),
        (["table4", "--seeds", "one"], "argument --seeds: 'one' is not a list"),
        (["table4", "--out", ""], "argument --out: is empty"),
    ],
)
def test_wrong_requests_of_reduced_experiments_are_told_once(capsys, words, told):
    import reduced

    assert reduced.main(words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert told in line


def test_what_is_measured_on_accelerators_is_a_valid_request(tmp_path):
    import accelerator

    roots = {"cifar10": "C", "mnist": "M", "fashion_mnist": ""}
    stages = accelerator.stages(tmp_path, roots, [64], ["--set", "train.epochs=1"])
    steps = [step for stage in stages for step in stage]
    for step in steps:
        arguments.build().parse_args(step.arguments)
    assert [step.arguments[0] for step in steps] == ["run", "bench", "bench", "run", "run"]
    runs = [step for step in steps if step.arguments[0] == "run"]
    for step, root in zip(runs, ("C", "C", "M"), strict=True):
        assignments = [argument for argument in step.arguments if "=" in argument]
        (experiment,) = variants.load(Path(step.arguments[1]), assignments, None).values()
        assert (experiment.model.width, experiment.data.root, experiment.train.epochs) == (64, root, 1)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--widths", "64x"], "argument --widths: '64x' is not a list"),
        (["--fashion_mnist", "DIR"], "unrecognized arguments: --fashion_mnist DIR"),
        (["--at-once", "0"], "--at-once and --minutes: expected at least 1"),
        (["--minutes", "nan"], "--at-once and --minutes: expected at least 1"),
    ],
)
def test_wrong_requests_of_accelerators_are_told_in_a_line(capsys, tmp_path, monkeypatch, words, told):
    import accelerator

    monkeypatch.chdir(tmp_path)
    assert accelerator.main(words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert told in line
    assert not list(tmp_path.iterdir())


def test_classes_that_train_side_by_side_have_a_directory_each(tmp_path):
    import accelerator

    roots = {"cifar10": "C", "mnist": "", "fashion_mnist": "F"}
    first, _, second, *speeds = accelerator.stages(tmp_path, roots, [16, 64], [], at_once=4)
    for stage, root in ((first, "C"), (second, "F")):
        parsed = [arguments.build().parse_args(step.arguments) for step in stage]
        assert [options.classes for options in parsed] == [[str(number)] for number in range(10)]
        assert len({options.out for options in parsed}) == 10
        assert all(options.set == [f"data.root={root}"] for options in parsed)
    step = speeds[0][0]
    assert not step.is_done()
    step.result.touch()
    assert step.is_done()
    assert all(len(stage) == 1 for stage in speeds)  # alone, or it is not the speed
    assert "--widths=64" in speeds[0][0].arguments


@pytest.mark.parametrize(
    ("codes", "result", "done"),
    [
        ([0, 0, 0, 0], 0, 4),
        ([-9, 0, 2, 0], 1, 4),  # one was killed, one was refused: the others are done all the same
        ([0, None, 0, 0], 0, 2),
        ([1, None, 0, 0], 1, 2),
        ([0, 130, 0, 0], 130, 2),
    ],
)
def test_what_fails_on_an_accelerator_stops_nothing_else(codes, result, done, capsys):
    import accelerator

    first, second, third, fourth = (accelerator.Step((f"step {number}",)) for number in range(4))
    given = dict(zip(("step 0", "step 1", "step 2", "step 3"), codes, strict=True))
    taken = []

    def run(arguments, end):
        taken.append(arguments[0])
        return given[arguments[0]]

    assert accelerator.carry_out([[first, second], [third], [fourth]], run, 60, at_once=2) == result
    assert len(taken) == done
    told = capsys.readouterr()
    assert ("minutes are over" in told.out) == (None in codes)
    assert told.err.count("exit code") == sum(code in (-9, 1, 2) for code in codes)

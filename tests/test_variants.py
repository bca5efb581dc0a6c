"""Experiments of several variants, from the file to the joint report."""

import json
import shutil
from pathlib import Path

import pytest

from itae_jax import cli
from itae_jax import experiment as experiment_files
from itae_jax.errors import RequestError
from itae_jax.runs import results, variants

EXPERIMENTS = Path(__file__).parent.parent / "experiments"
TWO = """
from itae_jax.config import *

def get_configs():
    return {
        name: Experiment(
            name="two", classes="6,8", data=DataConfig(image_size=16, limit_test=60),
            transform=TransformConfig(name=transform), model=ModelConfig(width=2),
            train=TrainConfig(epochs=2), evaluate=EvaluateConfig(every_epochs=1),
        )
        for name, transform in {"turned": "rotate", "plain": "identity"}.items()
    }
"""


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("experiments") / "two.py"
    path.write_text(TWO)
    return path


@pytest.fixture(scope="module")
def finished(file, tiny_network):
    """Both variants run, the second by a call of its own; tests leave it as it is."""
    out = file.parent / "out"
    command = ["run", str(file), "--out", str(out), "--set", "data.limit_train=40"]
    assert cli.main([*command, "--variants", "turned"]) == 0
    assert cli.main(command) == 0
    return out


def rows_of(out, variant):
    return list(results.read_results(out / variant).values())


def test_each_variant_is_a_run_directory_with_the_classes_of_the_file(finished):
    for variant, transform in (("turned", "rotate"), ("plain", "identity")):
        rows = rows_of(finished, variant)
        assert [row["normal_class"] for row in rows] == ["6", "8"]
        assert {(row["variant"], row["transform"], row["experiment"]) for row in rows} == {
            (variant, transform, "two")
        }


def test_one_report_is_over_all_in_the_order_of_the_file(finished):
    assert json.loads((finished / "variants.json").read_text()) == ["turned", "plain"]
    markdown = (finished / "report.md").read_text()
    assert "| normal class | turned | plain |" in markdown
    turned, plain = ([100 * float(row["auroc"]) for row in rows_of(finished, v)] for v in ("turned", "plain"))
    assert f"| **average** | {sum(turned) / 2:.1f} | {sum(plain) / 2:.1f} |" in markdown
    page = (finished / "report.html").read_text()
    assert "AUROC on the test set while training" in page  # the curves
    assert {path.name for path in (finished / "figures").iterdir()} == {
        f"{kind}_digits.{ending}" for kind in ("bars", "curves") for ending in ("png", "pdf")
    }
    assert (finished / "plain" / "figures" / "roc.png").exists()


def test_what_is_finished_is_not_run_again(finished, file, capsys):
    before = {variant: (finished / variant / "results.csv").read_bytes() for variant in ("turned", "plain")}
    assert cli.main(["run", str(file), "--out", str(finished), "--set", "data.limit_train=40"]) == 0
    assert capsys.readouterr().out.count("nothing to do: all 2 results") == 2
    assert {v: (finished / v / "results.csv").read_bytes() for v in before} == before


def test_a_report_of_the_whole_and_of_its_parts_are_alike(finished, capsys):
    assert cli.main(["report", str(finished)]) == 0
    whole = capsys.readouterr().out.rpartition("report:")[0]
    assert cli.main(["report", str(finished / "turned"), str(finished / "plain")]) == 0
    assert capsys.readouterr().out.rpartition("report:")[0] == whole


def test_a_plain_experiment_does_not_go_into_a_directory_of_variants(finished, capsys):
    assert cli.main(["run", str(EXPERIMENTS / "digits.py"), "--out", str(finished)]) == 2
    assert "several variants" in capsys.readouterr().err


def test_variants_do_not_go_into_a_directory_of_a_plain_experiment(finished, file, capsys):
    assert cli.main(["run", str(file), "--out", str(finished / "plain")]) == 2
    assert "without variants" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--variants", "melted"], "has no variant 'melted'; its variants: turned, plain"),
        (["--variants", ""], "has no variant ''"),
        (["--set", "transform.name=rotate"], "leaves the variants turned and plain alike"),
    ],
)
def test_a_wrong_choice_is_told_in_one_line(file, tmp_path, capsys, arguments, message):
    out = tmp_path / "out"
    assert cli.main(["run", str(file), "--out", str(out), *arguments]) == 2
    assert message in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("return []", "no dictionary"),
        ("return {}", "no dictionary"),
        ("return {'a': 1}", r"get_configs\(\)\['a'\]: expected a name and an Experiment"),
        ("return {'': Experiment()}", "expected a name"),
        ("return {'a/b': Experiment()}", "variant='a/b': expected a word"),
        ("return {'a': Experiment(), 'b': Experiment(name='x')}", "share its name"),
    ],
)
def test_a_wrong_file_is_refused(tmp_path, body, message):
    path = tmp_path / "mine.py"
    path.write_text(f"from itae_jax.config import Experiment\ndef get_configs():\n    {body}\n")
    with pytest.raises(RequestError, match=message):
        experiment_files.load(path)


def test_a_directory_of_runs_stands_for_all_of_them(tmp_path):
    for name in ("b", "a", "empty"):
        (tmp_path / name).mkdir()
    for name in ("b", "a"):
        (tmp_path / name / "results.csv").touch()
    assert variants.expand(tmp_path) == [tmp_path / "a", tmp_path / "b"]
    (tmp_path / "variants.json").write_text('["b", "not yet"]')
    assert variants.expand(tmp_path) == [tmp_path / "b", tmp_path / "a"]
    assert variants.expand(tmp_path / "a") == [tmp_path / "a"]
    assert variants.expand(tmp_path / "nowhere") == [tmp_path / "nowhere"]


def test_a_damaged_order_is_refused(tmp_path):
    (tmp_path / "variants.json").write_text('{"a": 1}')
    (tmp_path / "a").mkdir()
    with pytest.raises(RequestError, match=r"variants\.json: is damaged"):
        variants.expand(tmp_path)


@pytest.mark.parametrize("path", sorted(EXPERIMENTS.glob("[dtf]*.py")), ids=lambda path: path.stem)
def test_every_experiment_says_its_command_and_can_be_loaded(path):
    experiments = experiment_files.load(path)
    assert {experiment.name for experiment in experiments.values()} == {path.stem}
    assert f"itae run experiments/{path.name}" in path.read_text()
    for experiment in experiments.values():
        table = experiment.paper_table
        assert not table or (EXPERIMENTS / "paper" / f"{table}.csv").is_file()
    assert len(variants.load(path, ["model.width=8", "train.epochs=1"], None)) == len(experiments)


def test_what_a_variant_still_lacks_is_said(finished, tmp_path, capsys):
    copy = shutil.copytree(finished, tmp_path / "copy")
    assert variants.unfinished(copy) == []
    (copy / "plain" / "results.csv").unlink()
    assert cli.main(["report", str(copy)]) == 0
    assert f"{copy}: no training has finished yet of plain" in capsys.readouterr().out

"""Experiments of several variants, from the file to the joint report."""

import json
import shutil

import pytest
from conftest import one_line, rows_of

from itae_jax import cli

pytestmark = pytest.mark.usefixtures("tiny_network")
TWO = """
from itae_jax.config import DataConfig, EvaluateConfig, TrainConfig
from itae_jax.experiment import Experiment
from itae_jax.methods.itae import ITAEConfig

def get_configs():
    return {
        name: Experiment(
            name="two", classes="6,8", data=DataConfig(image_size=16, limit_test=60),
            method=ITAEConfig(transform=transform, width=2),
            train=TrainConfig(epochs=2), evaluate=EvaluateConfig(every_epochs=1, batch_size=8),
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
    before = (out / "turned" / "results.csv").read_bytes()
    assert cli.main(command) == 0
    assert (out / "turned" / "results.csv").read_bytes() == before  # trained once
    return out


def test_variants_are_run_directories_with_the_classes_of_the_file(finished):
    assert json.loads((finished / "variants.json").read_text()) == ["turned", "plain"]
    for variant in ("turned", "plain"):
        rows = rows_of(finished / variant / "results.csv")
        assert [row["normal_class"] for row in rows] == ["6", "8"]
        assert {(row["variant"], row["experiment"]) for row in rows} == {(variant, "two")}


def test_report_is_over_all_variants_in_the_order_of_the_file(finished):
    markdown = (finished / "report.md").read_text()
    assert "| normal class | turned | plain |" in markdown
    averages = [
        sum(100 * float(row["auroc"]) for row in rows_of(finished / variant / "results.csv")) / 2
        for variant in ("turned", "plain")
    ]
    assert f"| **average** | {averages[0]:.1f} | {averages[1]:.1f} |" in markdown
    names = {path.name for path in (finished / "figures").iterdir()}
    assert names > {f"{kind}_digits.{ending}" for kind in ("bars", "curves") for ending in ("png", "pdf")}
    assert names > {f"two_{variant}_restorations_class_6_seed_0.png" for variant in ("turned", "plain")}


def test_report_of_the_whole_is_that_of_its_parts_and_names_one_without_results(finished, tmp_path, capsys):
    copy = shutil.copytree(finished, tmp_path / "copy")
    assert cli.main(["report", str(copy)]) == 0
    whole = capsys.readouterr().out.rpartition("report:")[0]
    assert cli.main(["report", str(copy / "turned"), str(copy / "plain")]) == 0
    assert capsys.readouterr().out.rpartition("report:")[0] == whole
    (copy / "plain" / "results.csv").unlink()
    assert cli.main(["report", str(copy)]) == 0
    (line,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith(f"{copy}: "))
    assert "plain" in line and "turned" not in line


def test_variants_killed_before_their_order_is_written_resume(finished, file, tmp_path):
    copy = shutil.copytree(finished, tmp_path / "copy")
    (copy / "variants.json").unlink()
    shutil.rmtree(copy / "plain")
    command = ["run", str(file), "--out", str(copy), "--set", "data.limit_train=40"]
    assert cli.main(command) == 0
    assert json.loads((copy / "variants.json").read_text()) == ["turned", "plain"]


def test_experiments_with_and_without_variants_do_not_share_a_directory(finished, file, capsys):
    for experiment, out, message in (
        ("digits", finished, "several variants"),
        (str(file), finished / "plain", "without variants"),
    ):
        assert cli.main(["run", experiment, "--out", str(out)]) == 2
        assert message in one_line(capsys)

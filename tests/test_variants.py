"""Experiments of several variants: run, resumed and reported as one."""

import json
import shutil

import pytest

from itae_jax import cli
from itae_jax.report import run_page
from itae_jax.runs import directory

TWO = """
from itae_jax import experiment

def get_configs():
    small = ["data.image_size=16", "data.limit_test=60", "train.epochs=2", "evaluate.every_epochs=1"]
    one = experiment.override(experiment.Experiment(name="two", classes="6,8"), small)
    methods = {"turned": ["method.transform=rotate", "method.width=2"], "vae": ["method.name=vae"]}
    methods["vae"] += ["method.channels=2", "method.latent=2"]
    return {variant: experiment.override(one, settings) for variant, settings in methods.items()}
"""
LIMIT = ["--set", "data.limit_train=40"]


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("experiments") / "two.py"
    path.write_text(TWO)
    return path


@pytest.fixture(scope="module")
def finished(file, tiny_network):
    """Both variants run, the second by a call of its own; tests leave it as it is."""
    out = file.parent / "out"
    assert cli.main(["run", str(file), "--out", str(out), *LIMIT, "--variants", "turned"]) == 0
    assert cli.main(["run", str(file), "--out", str(out), *LIMIT]) == 0
    return out


def test_each_variant_is_a_run_of_the_files_classes_in_its_order(finished):
    assert json.loads((finished / "variants.json").read_text()) == ["turned", "vae"]
    runs = run_page.read([finished])
    assert [(run.experiment.variant, run.experiment.method.NAME) for run in runs] == [
        ("turned", "itae"),
        ("vae", "vae"),
    ]
    for run in runs:
        assert [(result.variant, result.normal_class) for result in run.results] == [
            (run.experiment.variant, index) for index in (6, 8)
        ]


def test_one_report_is_over_all_methods(finished):
    turned, vae = ([100 * result.auroc for result in run.results] for run in run_page.read([finished]))
    markdown = (finished / "report.md").read_text()
    assert "| normal class | turned | vae |" in markdown
    assert f"| **average** | {sum(turned) / 2:.1f} | {sum(vae) / 2:.1f} |" in markdown
    assert "AUROC on the test set while training" in (finished / "report.html").read_text()  # the curves
    figures = {path.name for path in (finished / "figures").iterdir()}
    assert figures > {f"{kind}_digits.{end}" for kind in ("bars", "curves") for end in ("png", "pdf")}
    assert figures > {f"two_{variant}_restorations_class_6_seed_0.png" for variant in ("turned", "vae")}


def test_finished_variants_are_not_run_again(finished, file, capsys):
    before = [(finished / variant / "results.csv").read_bytes() for variant in ("turned", "vae")]
    assert cli.main(["run", str(file), "--out", str(finished), *LIMIT]) == 0
    assert capsys.readouterr().out.count("nothing to do") == 2
    assert [(finished / variant / "results.csv").read_bytes() for variant in ("turned", "vae")] == before


def test_reports_of_the_whole_and_of_its_parts_are_alike(finished, capsys):
    texts = []
    for paths in ([finished], [finished / "turned", finished / "vae"]):
        assert cli.main(["report", *map(str, paths)]) == 0
        texts.append(capsys.readouterr().out.rpartition("report:")[0])
    assert texts[0] == texts[1]


@pytest.mark.parametrize(
    ("name", "out", "options", "message"),
    [
        ("digits", "", [], "several variants"),
        ("two", "turned", [], "without variants"),
        ("two", "new", ["--variants", "melted"], "has no variant 'melted'"),
        ("two", "new", ["--set", "method.name=itae", "method.transform=rotate", "method.width=2"], "alike"),
    ],
)
def test_a_wrong_choice_is_refused(finished, file, refused, name, out, options, message):
    path = file if name == "two" else name
    assert message in refused("run", path, "--out", finished / out, *options)
    assert not (finished / "new").exists()


def test_report_names_the_variants_without_results(finished, tmp_path, capsys):
    copy = shutil.copytree(finished, tmp_path / "copy")
    assert directory.unfinished(copy) == []
    (copy / "vae" / "results.csv").unlink()
    assert cli.main(["report", str(copy)]) == 0
    assert f"{copy}: no training has finished yet of vae" in capsys.readouterr().out

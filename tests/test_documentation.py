"""The documents: what they tell a reader to type works, and where they point exists."""

import inspect
import io
import json
import os
import pydoc
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import rows_of, save_images

import itae_jax
from itae_jax import arguments, cli, data, experiment, methods, parallel, transforms
from itae_jax.experiment import Experiment

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = [*sorted(ROOT.glob("*.md")), *sorted(DOCS.glob("*.md"))]
EXPERIMENTS = [ROOT / "experiments" / f"{name}.py" for name in experiment.shipped()]
SMALL = ["--set", "train.epochs=1", "train.batch_size=8", "evaluate.batch_size=8", "compute.devices=1"]
WITH_COMMANDS = [ROOT / "README.md", *(DOCS / f"{name}.md" for name in ("own_images", "paper", "extending"))]
COMMAND = r'(?:^|[|"]|\s)((?:itae|make|python|pip) [^"|]*(?:"[^"]*"[^"|]*)*)'
FORBIDDEN = [r"\btold\b", r"\bbegun\b", "What is left to say", "Whole or not at all", "of theirs", "in words"]


def text_of(page):
    return page.read_text(encoding="utf-8")


def blocks(page, language=""):
    """The code blocks of a page, or the docstring of an experiment."""
    if page.suffix == ".py":
        return re.findall(r'\A"""(.*?)"""', text_of(page), re.DOTALL)
    found = re.findall(r"^```(\w*)\n(.*?)^```$", text_of(page), re.DOTALL | re.MULTILINE)
    return [block for of, block in found if of == language]


def command_lines(page):
    for block in blocks(page):
        for line in block.splitlines():
            if found := re.search(COMMAND, line):
                yield shlex.split(found[1], comments=True)


def inline_code(page):
    prose = re.sub(r"^```.*?^```", "", text_of(page), flags=re.DOTALL | re.MULTILINE)
    return re.findall(r"`([^`]+)`", prose)


def python_file(page, name):
    """The first Python block after the page names the file that it belongs to."""
    after = text_of(page).partition(f"{name}`")[2]
    return re.search(r"^```python\n(.*?)^```$", after, re.DOTALL | re.MULTILINE)[1]


@pytest.mark.parametrize("page", [*PAGES, *EXPERIMENTS], ids=lambda page: page.name)
def test_documents_give_commands_that_parse(page):
    targets = set(re.findall(r"^([a-z-]+):", text_of(ROOT / "Makefile"), re.MULTILINE))
    extras = set(re.findall(r'"(\w+)": \[', text_of(ROOT / "setup.py")))
    found = list(command_lines(page))
    assert found or page not in [*WITH_COMMANDS, *EXPERIMENTS]
    for program, *words in found:
        if program == "make":
            assert {word for word in words if "=" not in word} <= targets, words
        elif program == "python":
            assert (ROOT / words[0]).is_file(), words
        elif program == "pip":
            assert set(re.findall(r"\[(\w+)\]", " ".join(words))) <= extras, words
        else:
            asked = arguments.build().parse_args(words)
            own = any("centre" in word or ":" in word for word in words)  # of the examples that extend
            if asked.call == "run" and not own:
                assert experiment.load(experiment.find(asked.experiment), asked.set, asked.variants), words


def run(words, *more):
    assert cli.main([*words, *more]) == 0, words


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_documents_name_options_and_settings_that_exist(page, capsys):
    helps = ""
    for command in (
        "",
        "run",
        "report",
        "fit",
        "score",
        "calibrate",
        "export",
        "bench",
        "data prepare",
        "data list",
        "transforms check",
    ):
        with pytest.raises(SystemExit):
            arguments.build().parse_args([*command.split(), "--help"])
        helps += capsys.readouterr().out
    fields = {name for method in methods.names() for name in experiment.fields_of(methods.config_class(method))}
    for code in inline_code(page):
        options = re.findall(r"(?<![\w-])--[a-z][a-z-]+", code) if code.startswith(("itae ", "--")) else []
        for option in options:
            assert re.search(rf"{option}\b", helps), option
        for setting in re.findall(r"(?:data|method|train|evaluate|compute)\.(?!py\b)[a-z_]+\b(?!\()", code):
            assert setting in fields | {"method.name"}, setting
        for assignment in re.findall(r"--set ([a-z_.]+=[\w.+]+)$", code):
            assert experiment.override(Experiment(), [assignment]), assignment


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_documents_link_to_files_and_headings_that_exist(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", text_of(page)):
        if "://" in target:
            continue
        file, _, heading = target.partition("#")
        path = (page.parent / file) if file else page
        assert path.exists(), target
        assert page.parent != DOCS or path.resolve().is_relative_to(DOCS), f"{target} is not part of the site"
        if heading:
            titles = re.findall(r"^#+ (.*)$", text_of(path), re.MULTILINE)
            anchors = {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
            assert heading in anchors, target


def test_api_page_names_what_exists_and_all_public_names():
    named = re.findall(r"^::: (\S+)$", text_of(DOCS / "api.md"), re.MULTILINE)
    found = {name: pydoc.locate(name) for name in named}
    assert None not in found.values(), found
    public = {name: getattr(itae_jax, name) for name in itae_jax.__all__}
    assert not [
        name for name, value in public.items() if not inspect.ismodule(value) and value not in found.values()
    ]


def test_documents_show_every_picture():
    shown = {
        Path(target).name for page in PAGES for target in re.findall(r"!\[[^]]*\]\(([^)]+)\)", text_of(page))
    }
    assert {path.name for path in (DOCS / "images").iterdir()} == shown


def test_documents_keep_to_their_length():
    words = {page: len(text_of(page).split()) for page in PAGES}
    assert words[ROOT / "README.md"] <= 900
    assert sum(words.values()) <= 9_900
    assert len(text_of(DOCS / "results.md").splitlines()) <= 120


def test_package_and_documents_use_plain_english():
    sources = [path for folder in ("itae_jax", "experiments") for path in (ROOT / folder).rglob("*.py")]
    templates = list((ROOT / "itae_jax").rglob("*.html"))
    found = [
        (path.relative_to(ROOT).as_posix(), phrase)
        for path in (*PAGES, *sources, *templates, ROOT / "Makefile")
        for phrase in FORBIDDEN
        if re.search(phrase, text_of(path))
    ]
    assert not found


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty current directory, from which Python imports."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def test_own_images_page_runs_from_fit_to_report(here, tiny_network, monkeypatch):
    for folder, count in (("good", 20), ("new", 3), ("later", 3)):
        save_images(here / "photos" / folder, count)
    small = [*SMALL, "data.image_size=16", "method.width=2"]
    for block in blocks(DOCS / "own_images.md"):
        for line in block.splitlines():
            feed, _, command = line.rpartition("|")
            if feed:
                paths = subprocess.run(feed, shell=True, capture_output=True, check=True).stdout
                monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(paths)))
            _, *words = shlex.split(command, comments=True)
            if "by_rotation" in words:  # a second fit, which takes long
                continue
            run(words, *(small if words[0] == "fit" else []))
    made = ("model/report.html", "scores.csv", "scores.html", "heatmaps/000.png.png")
    assert all((here / path).is_file() for path in made)
    text = text_of(DOCS / "own_images.md")
    header = (here / "scores.csv").read_text().splitlines()[0].split(",")
    alike = r"error_[1-9]|score_\w+_(mean|max|top)"  # the page names the first of each kind
    assert all(f"`{column}`" in text for column in header if not re.fullmatch(alike, column))
    assert all(f"`{path.name}" in text for path in (here / "model").iterdir() if path.name != "report.html")


def test_own_images_page_has_python_that_runs(here, tiny_network):
    (code,) = blocks(DOCS / "own_images.md", "python")
    small = code.replace("width=16, epochs=50", "width=2, epochs=1, batch_size=8")
    assert small != code
    images = np.random.default_rng(0).integers(0, 256, (20, 16, 16), np.uint8)
    names = {"images": images, "new": images[:3]}
    exec(small, names)
    assert names["detector"].anomaly_maps(names["new"]).shape == (3, 16, 16)


def test_first_steps_notebook_runs_without_jupyter(here, tiny_network, monkeypatch, capsys):
    """With a tiny network; .ci/smoke runs it as it is."""
    cells = json.loads(text_of(DOCS / "first_steps.ipynb"))["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert not any(cell["outputs"] or cell["execution_count"] for cell in code)
    script = "\n\n".join("".join(cell["source"]) for cell in code)
    small = script.replace("width=8, epochs=25", "width=2, epochs=1")
    assert small != script
    monkeypatch.setattr(parallel, "use_cpu_cores", lambda: None)  # before JAX starts only
    monkeypatch.setattr("matplotlib.pyplot.show", lambda: None)
    exec(small, {})
    assert "AUROC" in capsys.readouterr().out


def test_readme_compares_methods_in_one_report(here, tiny_network):
    small = {"runs/itae": ["method.width=2"], "runs/vae": ["method.channels=2", "method.latent=4"]}
    limits = ["data.limit_train=32", "data.limit_test=20"]
    for _, *words in command_lines(ROOT / "README.md"):
        if words[0] == "run":
            run(words, "--classes", "6", *SMALL, *limits, *small[words[words.index("--out") + 1]])
        elif words[0] == "report" and words[1].startswith("runs/"):
            run(words)
    assert [rows_of(here / out / "results.csv")[0]["method"] for out in small] == ["itae", "vae"]
    assert (here / "runs/itae/report.html").is_file()


def test_extending_page_has_a_transform_that_passes_the_checks(here):
    page = DOCS / "extending.md"
    (here / "halves.py").write_text(python_file(page, "halves.py"))
    (check,) = (words for words in command_lines(page) if words[1:3] == ["transforms", "check"])
    run(check[1:])
    composed = [name for words in command_lines(page) for name in words if name.startswith("method.transform=")]
    assert [transforms.get(name.partition("=")[2]).count for name in composed] == [2, 8]
    sys.modules.pop("halves")


def test_extending_page_has_a_method_and_a_data_set_that_run(here, monkeypatch):
    page = DOCS / "extending.md"
    for package, name in ((methods, "centre"), (data, "arrays")):
        folder = here / package.__name__.rpartition(".")[2]
        folder.mkdir()
        (folder / f"{name}.py").write_text(python_file(page, f"{name}.py"))
        monkeypatch.setattr(package, "__path__", [*package.__path__, os.fspath(folder)])
    methods.names.cache_clear()
    monkeypatch.setitem(data.CATALOGUE, "arrays", pydoc.locate("itae_jax.data.arrays").SPEC)
    rng, labels = np.random.default_rng(0), np.repeat([0, 1], 10)
    bright = np.where(labels == 1, 200, 0)[:, None, None, None]
    images = {
        f"{part}_images": np.uint8(rng.integers(0, 50, (20, 8, 8, 1)) + bright) for part in ("train", "test")
    }
    np.savez(here / "images.npz", **images, train_labels=labels, test_labels=labels)
    try:
        (command,) = (words for words in command_lines(page) if "data.root=images.npz" in words)
        (own,) = (words for words in command_lines(page) if "method.power=1.5" in words)
        settings = [word for word in own if word.startswith("method.")]
        run([*command[1:], "--set", *settings, "data.image_size=0", "train.epochs=5", "train.batch_size=8"])
        assert [row["auroc"] for row in rows_of(here / "runs/arrays" / "results.csv")] == ["1.000000"] * 2
        assert (here / "runs/arrays/report.html").is_file()
        assert cli.main(["run", "digits", "--set", "data.name=arrays", "data.root=none.npz", "--out", "x"]) == 2
    finally:
        methods.names.cache_clear()
        for name in ("itae_jax.methods.centre", "itae_jax.data.arrays"):
            sys.modules.pop(name, None)

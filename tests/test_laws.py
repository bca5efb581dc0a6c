"""Laws over generated matrices: every file counts, none of the user's changes, text is read in any dress.

The law of images, over formats, modes, compressions and orientations, is in test_reader.py.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import contents, save_images

from itae_jax import cli, experiment, files
from itae_jax.data import folders
from itae_jax.detection import model as models
from itae_jax.errors import RequestError
from itae_jax.runs import results

pytestmark = pytest.mark.usefixtures("tiny_network")


@pytest.fixture(scope="session")
def model(small_model_of):
    """One without a network, which every process can load."""
    return small_model_of("pca")


def test_every_visible_file_of_a_folder_has_a_row_or_is_counted(model, tmp_path, capsys):
    root, endings = tmp_path / "images", [*folders.SUFFIXES, ".txt", ".heic", ".xml", ""]
    for depth in ("", "a", "a/b"):
        (root / depth).mkdir(parents=True, exist_ok=True)
        for number, ending in enumerate(endings):
            for name in (f"{number}{ending}", f"{number}_{ending.upper()}", f".hidden{number}{ending}"):
                (root / depth / name).write_bytes(b"no image")
        (root / depth / "gone.png").symlink_to(tmp_path / "nowhere.png")
        (root / depth / "gone").symlink_to(tmp_path / "nowhere")
        (root / depth / "again").symlink_to(root)
        (root / depth / ".hidden").mkdir()
        (root / depth / ".hidden" / "0.png").write_bytes(b"no image")
    save_images(root / "real", 3)
    visible = 3 * (2 * len(endings) + 2) + 3
    out = tmp_path / "scores.csv"
    assert cli.main(["score", str(model), str(root), "--out", str(out), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["num_scored"], found["num_scored"] + found["num_unreadable"]) == (3, len(files.read_csv(out)))
    assert len(files.read_csv(out)) + sum(found["others"].values()) == visible
    assert found["others"] == {".txt": 6, ".heic": 6, ".xml": 6, "no ending": 9}


OUTPUTS = {
    "score": ["score", "{model}", "{photo}", "--out", "{place}"],
    "heat maps": ["score", "{model}", "{photo}", "--out", "scores.csv", "--heatmaps", "{place}"],
    "maps": ["score", "{model}", "{photo}", "--out", "scores.csv", "--maps", "{place}"],
    "fit": ["fit", "{good}", "--set", "method.name=pca", "--out", "{place}"],
    "calibrate": ["calibrate", "{model}", "{new}", "--out", "{place}"],
    "export": ["export", "{model}", "--out", "{place}"],
    "weights": ["export", "{model}", "--format", "safetensors", "--out", "{place}"],
    "run": ["run", "digits", "--set", "method.name=pca", "data.limit_train=40", "--out", "{place}"],
    "report": ["report", "{run}", "--out", "{place}"],
    "bench": ["bench", "data", "--count", "1", "--json", "{place}"],
    "plot": ["bench", "--plot", "{place}"],
    "show": ["transforms", "show", "{photo}", "--out", "{place}"],
}


@pytest.mark.parametrize("kind", ["file", "folder", "link to a file", "link to a folder", "dangling link"])
@pytest.mark.parametrize("output", OUTPUTS)
def test_no_output_changes_a_file_of_the_user(output, kind, model, finished_run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    mine = tmp_path / "mine"
    (mine / "figures").mkdir(parents=True)
    for name in ("report.md", "scores.csv", "figures/roc.pdf", "photo.png"):
        (mine / name).write_bytes(b"mine")
    place = tmp_path / "out.png"
    if kind == "file":
        place.write_bytes(b"mine")
    elif kind == "folder":
        shutil.copytree(mine, place)
    else:
        place.symlink_to(
            tmp_path / {"link to a file": "mine/photo.png", "link to a folder": "mine"}.get(kind, "no")
        )
    places = {"model": model, "run": finished_run, "place": place, "good": model.parent / "good"}
    places |= {"new": save_images(tmp_path / "new", 3), "photo": tmp_path / "new" / "000.png"}
    before, link = contents(mine), os.readlink(place) if place.is_symlink() else None
    own = contents(place) if kind == "folder" else None
    code = cli.main([word.format(**places) for word in OUTPUTS[output]])
    assert code in (0, 2)
    assert contents(mine) == before
    assert link == (os.readlink(place) if place.is_symlink() else None)
    if kind == "file":
        assert place.read_bytes() == b"mine" and code == 2
    if own:
        assert contents(place) == own and code == 2


@pytest.mark.parametrize("closed", ["", "<&- >&- 2>&-"])
def test_scoring_works_in_odd_surroundings(model, tmp_path, closed):
    (image,) = save_images(tmp_path / "übel", 1).iterdir()
    odd = {"LC_ALL": "C", "MPLBACKEND": "module://missing", "XDG_CACHE_HOME": "relative", "PYTHONUTF8": "0"}
    ours = ("HOME", "JAX_COMPILATION_CACHE_DIR", "XLA_FLAGS")
    environment = {key: value for key, value in os.environ.items() if key not in ours} | odd
    command = f'"{sys.executable}" -m itae_jax score "{model}" "{image}" --out s.csv --heatmaps maps {closed}'
    done = subprocess.run(command, shell=True, env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert [row["reason"] for row in files.read_csv(tmp_path / "s.csv")] == [""]
    assert {path.name for path in tmp_path.iterdir()} == {"übel", "s.csv", "maps"}


def test_an_error_never_goes_to_standard_output(model):
    for place in ("2>&-", "2>/dev/full"):
        command = f'"{sys.executable}" -m itae_jax score "{model}" nowhere.png --out - {place}'
        done = subprocess.run(command, shell=True, capture_output=True, text=True)
        assert (done.returncode, done.stdout) == (2, "")


@pytest.mark.parametrize("place", ["", "state", "state/arrays"])
def test_foreign_files_in_a_model_are_ignored(model, tmp_path, place):
    copy = shutil.copytree(model, tmp_path / "model")
    for name in (".DS_Store", "._x", "@eaDir/thumbs", "notes.txt"):
        (copy / place / name).parent.mkdir(exist_ok=True)
        (copy / place / name).write_bytes(b"foreign")
    assert models.load(copy).summary(0.05) == models.load(model).summary(0.05)


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text[: text.rindex("\n", 0, -1) + 1],
        lambda text: text.replace("1", "2", 1),
        lambda text: "\ufeff" + text,
        lambda text: text.replace("\n", "\r\n"),
    ],
)
def test_changed_scores_of_a_model_are_refused(model, tmp_path, change):
    path = shutil.copytree(model, tmp_path / "model") / "normal_scores.csv"
    path.write_bytes(change(path.read_text()).encode())
    with pytest.raises(RequestError, match=r"normal_scores\.csv: .*fit the model again"):
        models.load(path.parent)


TEXTS = {
    "superclasses": folders.read_superclasses,
    "results.csv": results.read,
    "config of a run": experiment.read_record,
    "config of a model": lambda path: models.read_config(path.parent),
    "scores.csv": lambda path: cli.main(["report", str(path)]),
}


@pytest.fixture
def text_file(model, finished_run, tmp_path):
    """name -> (a file of this kind, how it is read)."""

    def make(name):
        (tmp_path / "joins.csv").write_text("folder,class\ncat,animal\ndog,animal\n")
        if name == "scores.csv":
            scored = ["score", str(model), str(model.parent / "good"), "--out", str(tmp_path / "s.csv")]
            assert cli.main(scored) == 0
        paths = {
            "superclasses": tmp_path / "joins.csv",
            "results.csv": Path(shutil.copy(finished_run / "results.csv", tmp_path)),
            "config of a run": Path(shutil.copy(finished_run / "config.json", tmp_path)),
            "config of a model": shutil.copytree(model, tmp_path / "model") / "config.json",
            "scores.csv": tmp_path / "s.csv",
        }
        return paths[name], TEXTS[name]

    return make


@pytest.mark.parametrize("name", TEXTS)
def test_text_is_read_with_a_byte_order_mark_and_lines_of_any_system(name, text_file):
    path, read = text_file(name)
    plain, expected = path.read_bytes(), read(path)
    for mark in (b"", b"\xef\xbb\xbf"):
        for end in (b"\n", b"\r\n"):
            path.write_bytes(mark + plain.replace(b"\n", end))
            assert read(path) == expected


@pytest.mark.parametrize("name", TEXTS)
def test_other_text_is_refused_by_its_cause(name, text_file, capsys):
    path, read = text_file(name)
    plain, is_table = path.read_bytes(), path.suffix == ".csv"
    dresses = {
        "UTF-8" * is_table: [plain.decode().encode("utf-16"), plain[:20] + b"\0" + plain[20:]],
        "semicolons": [plain.replace(b",", b";")] * is_table,
    }
    for cause, contents_of in dresses.items():
        for content in contents_of:
            path.write_bytes(content)
            capsys.readouterr()
            try:
                assert read(path) == 2
                message = capsys.readouterr().err
            except RequestError as error:
                message = str(error)
            assert path.name in message and cause in message, message

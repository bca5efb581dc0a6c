"""`itae bench quality`: recipes followed to given AUROCs, and to held-out losses of images without labels."""

import json

import pytest
from conftest import save_images

from itae_jax import cli
from itae_jax.bench import quality

pytestmark = pytest.mark.usefixtures("tiny_network")


def test_quality_follows_each_recipe_to_the_marks(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(quality, "MARKS", (0.0, 2.0))
    settings = ["--set", "train.epochs=3", "evaluate.every_epochs=2", "method.width=2", "classes=3"]
    files = {name: tmp_path / name for name in ("quality.json", "quality.png")}
    options = ["--json", str(files["quality.json"]), "--plot", str(files["quality.png"])]
    limits = ["data.limit_train=40", "data.limit_test=50"]
    assert cli.main(["bench", "quality", *settings, *limits, *options]) == 0
    result = json.loads(files["quality.json"].read_text())
    assert list(result["recipes"]) == ["paper", "improved"] and result["settings"]["class"] == "3"
    for points in result["recipes"].values():
        assert [(point["epoch"], point["images"]) for point in points] == [(2, 64), (3, 96)]
        assert 0 < points[0]["seconds"] < points[1]["seconds"]
        assert quality.reached(points, "auroc", 0.0) == points[0]
        assert quality.reached(points, "auroc", 2.0) is None
    marks = capsys.readouterr().out.splitlines()[-1]
    assert marks.startswith("0 ") and marks.count("64 images") == 2
    assert files["quality.png"].read_bytes().startswith(b"\x89PNG")
    assert cli.main(["bench", "quality", *settings, *limits, "train.learning_rate=1e30"]) == 1
    assert "nan" in capsys.readouterr().out


def test_quality_of_images_without_labels_is_the_held_out_loss(tmp_path, capsys):
    save_images(tmp_path / "photos", 24)
    settings = ["data.name=folder", f"data.root={tmp_path / 'photos'}", "train.batch_size=8", "train.epochs=2"]
    command = ["bench", "quality", "--set", *settings, "data.image_size=32", "method.width=2"]
    assert cli.main([*command, "--json", str(tmp_path / "q.json")]) == 0
    recipes = json.loads((tmp_path / "q.json").read_text())["recipes"]
    lowest = min(point["held_out"] for points in recipes.values() for point in points)
    assert f"{lowest:.4g} " in capsys.readouterr().out.splitlines()[-1]
    assert cli.main([*command, "train.learning_rate=1e-30", "--json", str(tmp_path / "still.json")]) == 0
    first, last = json.loads((tmp_path / "still.json").read_text())["recipes"]["paper"]
    assert first["held_out"] == last["held_out"] > 0 and first["loss"] != last["loss"]

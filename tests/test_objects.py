"""How `itae fit` tells photographs of objects from parts and textures."""

import numpy as np
import pytest
from PIL import Image
from sklearn.decomposition import PCA

from itae_jax import cli, methods
from itae_jax.detection import model as models
from itae_jax.detection import objects

COUNT = 120
HEAD = 90 * (abs(np.arange(32) - 8) < 3)[:, None, None]  # a bar in the upper half


def noise(rng):
    return rng.normal(0, 40, (COUNT, 32, 32, 1))


def as_images(values):
    return np.clip(values + 128, 0, 255).astype(np.uint8)


def varied(rng):
    return as_images(noise(rng) + HEAD)


def alike(rng):
    """They differ in brightness alone."""
    part = np.random.default_rng(7).normal(0, 40, (32, 32, 1)) + HEAD
    return as_images(part + rng.normal(0, 20, (COUNT, 1, 1, 1)))


def textures(rng):
    return as_images(noise(rng))


@pytest.mark.parametrize("make", [varied, alike, textures])
def test_only_varied_images_with_an_up_and_a_down_are_of_objects(make, rng):
    assert objects.variety(make(rng)).of_objects == (make is varied)


def test_explained_is_the_variance_that_principal_components_explain(rng):
    images = alike(rng)
    rows = images.reshape(COUNT, -1) / 127.5 - 1
    pca = PCA(20).fit(rows[::2])
    restored = pca.inverse_transform(pca.transform(rows[1::2]))
    left, whole = (np.square(rows[1::2] - other).sum() for other in (restored, pca.mean_))
    assert objects.variety(images).explained == pytest.approx(1 - left / whole, abs=1e-3)


def test_few_images_tell_nothing(rng):
    assert objects.variety(textures(rng)[:39]) is None


@pytest.fixture
def fit(tmp_path, tiny_network):
    """Fits varied photographs, and returns the exit code."""
    photos = tmp_path / "photos"
    photos.mkdir()
    for number, image in enumerate(varied(np.random.default_rng(0))):
        Image.fromarray(image[..., 0]).save(photos / f"{number}.png")
    options = ["--epochs", "1", "--size", "16", "--holdout", "0.1"]
    return lambda: cli.main(["fit", str(photos), "--out", str(tmp_path / "model"), *options])


def rate(monkeypatch, rating):
    """Makes `itae fit` compare PCA, which trains nothing, and rate it so."""
    for name, offered in (("ensemble", []), ("pca", [("whole images", {})])):
        offer = staticmethod(lambda *_, offered=offered: offered)
        monkeypatch.setattr(methods.config_class(name), "candidates", offer)
    monkeypatch.setattr("itae_jax.detection.fit.rated", lambda trained, *_: (trained, rating, {}))


def test_fit_keeps_the_usual_method_where_surrogates_are_found(fit, tmp_path, monkeypatch):
    rate(monkeypatch, 0.7)
    assert fit() == 0
    settings, _, details = models.read_config(tmp_path / "model")
    assert (settings.method.NAME, details["num_train"]) == ("pca", 108 - 16)


def test_fit_takes_rotation_for_objects_where_surrogates_are_not_found_and_keeps_to_it(
    fit, tmp_path, monkeypatch, capsys
):
    rate(monkeypatch, 0.5)
    with monkeypatch.context() as patch:
        patch.setattr("itae_jax.detection.fit.NormalScores.measure", interrupt)
        assert fit() == 130
    assert "other kinds of objects" in capsys.readouterr().out
    rate(monkeypatch, 0.9)
    assert fit() == 0
    settings, _, details = models.read_config(tmp_path / "model")
    assert (settings.method.NAME, details["num_train"]) == ("itae", 108)
    assert settings.method.error == "features"
    assert details["ratings"] == {"whole images": 0.5}


def interrupt(*_):
    raise KeyboardInterrupt

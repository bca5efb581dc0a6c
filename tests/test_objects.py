"""How `itae fit` tells photographs of objects from parts and textures."""

import numpy as np
import pytest
from PIL import Image
from sklearn.decomposition import PCA

from itae_jax import cli
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


@pytest.mark.parametrize("rating, method", [(0.5, "itae"), (0.7, "ensemble")])
@pytest.mark.usefixtures("tiny_network")
def test_fit_takes_rotation_for_objects_where_surrogates_are_not_found(
    rating, method, tmp_path, monkeypatch, capsys
):
    photos = tmp_path / "photos"
    photos.mkdir()
    for number, image in enumerate(varied(np.random.default_rng(0))):
        Image.fromarray(image[..., 0]).save(photos / f"{number}.png")
    monkeypatch.setattr("itae_jax.detection.fit.rated", lambda trained, *_: (trained, rating))
    out, options = tmp_path / "model", ["--epochs", "1", "--size", "16", "--holdout", "0.1"]
    assert cli.main(["fit", str(photos), "--out", str(out), *options]) == 0
    settings, _, details = models.read_config(out)
    assert method == settings.method.NAME
    assert details["num_train"] == 108 - 16 * (method == "ensemble")
    assert ("other kinds of objects" in capsys.readouterr().out) == (method == "itae")

"""How `itae fit` chooses: surrogate anomalies, candidates, ratings, and the weights of an ensemble."""

import json

import jax.numpy as jnp
import numpy as np
import pytest
from conftest import make_learner, save_images, tiny
from PIL import Image
from scipy import stats

from itae_jax import cli, methods, progress
from itae_jax.data import LazyImages, as_images
from itae_jax.data.reader import Look, Reader
from itae_jax.detection import candidates, surrogates
from itae_jax.detection import model as models
from itae_jax.detection.export import scoring_function

pytestmark = pytest.mark.usefixtures("tiny_network")


@pytest.mark.parametrize("family", surrogates.FAMILIES)
@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 40, 3), (64, 48, 1), (200, 200, 3)])
def test_surrogate_changes_at_most_a_square_of_the_image(family, shape, rng):
    image = rng.integers(0, 256, shape, np.uint8)
    before = image.copy()
    made = surrogates.make(image, family, np.random.default_rng(1))
    assert (made.shape, made.dtype) == (shape, np.uint8)
    np.testing.assert_array_equal(image, before)
    np.testing.assert_array_equal(made, surrogates.make(image, family, np.random.default_rng(1)))
    rows, columns = np.nonzero((made != image).any(2))
    if min(shape[:2]) >= 8:
        assert len(rows)
        assert max(np.ptp(rows), np.ptp(columns)) < min(shape[:2]) / 2 + 1


def looks(side):
    return [Look(side, side, True)] * 9


def found(side, **asked):
    asked = {name.replace("__", "."): value for name, value in asked.items()}
    method = methods.config_class(asked.get("method.name", "itae"))()
    offered = candidates.candidates(looks(side), asked, 100, method, False)
    return [one for one in offered if not one.for_objects]


def test_candidates_of_large_images_train_on_parts_too():
    small, large = found(90), found(700)
    assert len(small) == 1 and len(large) == 2
    sizes = [{**one.settings, **{c.field: c.value for c in one.choices}}["data.image_size"] for one in large]
    assert sizes == [64, 512]


def test_candidates_agree_with_what_is_asked():
    for asked in ({"method__transform": "rotate"}, {"method__name": "vae"}, {"method__name": "itae"}):
        (only,) = found(700, **asked)
        assert not only.settings
    (of_features,) = found(64, method__error="features")
    assert of_features.settings == {}
    values = {one.field: one.value for one in of_features.choices}
    assert values["method.transform"] == "gray+rotate" and not {"method.head", "method.reduce"} & values.keys()
    (whole,) = found(700, data__image_size=64)
    assert whole.settings["method.name"] == "ensemble"
    for size in (512, 1024):
        (parts,) = found(700, data__image_size=size)
        assert parts.settings["train.augment"] == "flip+crop64+light"
        for more in ({"method__views": "one"}, {"train__augment": "flip"}):
            (only,) = found(700, data__image_size=size, **more)
            assert only.settings["method.name"] == "ensemble"


def test_transforms_that_erase_parts_are_scored_by_structure_and_only_paste_has_a_head():
    for transform, head in (("paste", 8), ("masks", None), ("gray+mask", None), ("rotate", None)):
        chosen, *_ = found(64, method__transform=transform)
        values = {choice.field: choice.value for choice in chosen.choices}
        assert values.get("method.head") == head
        assert values.get("method.reduce") == (None if transform == "rotate" else "max")


def test_candidate_for_objects_comes_last_unless_a_setting_of_a_method_is_asked_for():
    of_objects = (
        ({}, True),
        ({"data.channels": 1}, True),
        ({"data.aspect": 2.0}, False),
        ({"method.width": 4}, False),
    )
    for asked, is_offered in of_objects:
        offered = candidates.candidates(looks(700), asked, 100, methods.config_class("itae")(), False)
        assert [one.for_objects for one in offered] == [False, False, *[True] * is_offered]


def test_best_keeps_the_usual_one_unless_another_is_clearly_better():
    assert candidates.best({"usual": 0.7, "other": 0.71}) == "usual"
    assert candidates.best({"usual": 0.7, "other": 0.9, "third": 0.8}) == "other"


@pytest.mark.parametrize("count", [1, 39, 40, 300, 5000])
def test_set_aside_divides_the_training_images(count):
    training = np.arange(count) * 3
    rating, others = candidates.set_aside(training, 0)
    np.testing.assert_array_equal(np.sort(np.concatenate([rating, others])), training)
    assert len(rating) <= 64 and (len(rating) > 0) == (count >= 40)


def ramps(count, seed):
    """Images that grow brighter to the right, with some noise."""
    noise = np.random.default_rng(seed).integers(0, 20, (count, 16, 16, 1))
    return (noise + np.linspace(0, 200, 16).astype(int)[:, None]).astype(np.uint8)


@pytest.fixture(scope="module")
def ensemble(tiny_network):
    learner = make_learner(tiny("ensemble", "train.epochs=2"))
    return learner.fit(as_images(ramps(40, 0)), (0,), lambda *_: None)


def test_ensemble_is_the_weighted_mean_of_standardised_logarithms(ensemble, rng):
    normal_images, new = rng.integers(0, 256, (2, 20, 16, 16, 1), np.uint8)
    members = ensemble.learner.method.members
    normal, columns = (ensemble.score(images).columns for images in (normal_images, new))
    ratings = dict(zip(members, [0.9, 0.4, 0.6], strict=True))
    combined = ensemble.combined(normal, ratings)
    expected = np.zeros(len(new))
    for name, weight in zip(members, [0.8, 0, 0.2], strict=True):
        expected += weight * stats.zmap(np.log(columns[name]), np.log(normal[name]))
    np.testing.assert_allclose(combined.score(new).scores_N, expected, rtol=1e-3, atol=1e-3)
    by_jax = scoring_function(combined)(jnp.asarray(new))["score"]
    np.testing.assert_allclose(by_jax, expected, rtol=1e-2, atol=1e-2)


def test_ensemble_scores_new_normal_images_about_0_without_others_to_weigh_it(ensemble):
    assert abs(np.median(ensemble.score(ramps(40, 2)).scores_N)) < 0.7


def test_rated_without_a_readable_image_changes_nothing(ensemble, tmp_path):
    (tmp_path / "0.png").write_bytes(b"no image")
    reader = Reader(16, 1)
    normal = LazyImages(reader.read, [tmp_path / "0.png"], reader.shape)
    assert candidates.rated(ensemble, normal, reader, 0) == (ensemble, 0, {})


def test_rated_weighs_the_scores_by_surrogates(ensemble, tmp_path):
    paths, reader = [tmp_path / f"{number}.png" for number in range(12)], Reader(16, 1)
    normal = LazyImages(reader.read, paths, reader.shape)
    for path, image in zip(paths, ramps(12, 1), strict=True):
        Image.fromarray(image[..., 0]).save(path)
    paths[3].write_bytes(b"no image")
    weighed, rating, by_member = candidates.rated(ensemble, normal, reader, 0)
    assert 0.5 < rating <= 1 and list(normal.unreadable) == [str(paths[3])]
    weights = weighed.calibration["weights"]
    assert weights.sum() == pytest.approx(1) and np.ptp(weights) > 0
    assert list(by_member) == list(ensemble.learner.method.members)
    assert np.argsort(list(by_member.values()))[-1] == np.argmax(weights)
    unweighed, other, none = candidates.rated(ensemble, normal, reader, 0, weigh=False)
    assert unweighed is ensemble and 0.5 < other <= 1 and not none
    again, same, _ = candidates.rated(ensemble, normal, reader, 0)
    assert same == rating and (again.calibration["weights"] == weights).all()


def test_fit_chooses_and_resumes_the_choice(tmp_path, monkeypatch, capsys):
    images = save_images(tmp_path / "images", 60, size=(48, 48))
    sizes = {"whole": 16, "fine": 32}
    offered = [(title, {"data.image_size": size}) for title, size in sizes.items()]
    monkeypatch.setattr(methods.config_class("pca"), "candidates", lambda *_: offered)
    out = tmp_path / "model"

    def fit():
        return cli.main(["fit", str(images), "--out", str(out), "--set", "method.name=pca"])

    def interrupt(self, text):
        if text.startswith("trying: fine"):
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(progress.ConsoleProgress, "say", interrupt)
        assert fit() == 130
    kept = json.loads((tmp_path / "model.partial" / "started.json").read_text())["ratings"]
    capsys.readouterr()
    assert fit() == 0
    said = capsys.readouterr().out
    assert "trying: whole" not in said and said.index("trying: fine") < said.index("chosen")
    settings, _, details = models.read_config(out)
    assert details["ratings"].items() >= kept.items() and details["ratings"].keys() == sizes.keys()
    assert settings.data.image_size == sizes[candidates.best(details["ratings"])]
    assert details["num_train"] == 60 - 12 - 7  # without those that rate

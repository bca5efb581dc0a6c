"""ITAEDetector: scikit-learn's conventions, its own promises, and what it refuses."""

import dataclasses
import itertools
import json
import multiprocessing
import pickle
import shutil

import numpy as np
import pytest
from conftest import SMALL_DETECTOR
from PIL import Image
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.estimator_checks import parametrize_with_checks

from itae_jax import ITAEDetector, RequestError, arguments, cli, files
from itae_jax.detection import export
from itae_jax.detection.threshold import threshold
from itae_jax.training.learner import learner_for

pytestmark = pytest.mark.usefixtures("tiny_network")


@pytest.fixture(scope="module")
def images():
    """60 grey images of 16x16 whose left half is dark."""
    images = np.random.default_rng(0).integers(100, 256, (60, 16, 16), np.uint8)
    images[..., :8] //= 4
    return images


@pytest.fixture(scope="module")
def detector(images):
    return ITAEDetector(**SMALL_DETECTOR).fit(images)


def test_detector_has_scikit_learns_signs(detector, images):
    scores = detector.anomaly_scores(images)
    np.testing.assert_array_equal(detector.score_samples(images), -scores)
    decision = detector.decision_function(images)
    np.testing.assert_allclose(decision, -scores - detector.offset_)
    np.testing.assert_array_equal(detector.predict(images), np.where(decision < 0, -1, 1))
    assert set(detector.predict(images)) == {-1, 1}


def test_detector_takes_its_threshold_from_images_without_a_part_in_training(images):
    detector = ITAEDetector(**SMALL_DETECTOR).fit(images)
    normal = detector.model_.normal
    held_out = [int(name) for name in normal.ids]
    assert len(held_out) == 12
    np.testing.assert_allclose(detector.anomaly_scores(images[held_out]), normal.scores_N, rtol=1e-6)
    for share, expected in ((0.5, 5), (0.25, 2), (0.16, 1), (0.05, 0)):
        detector.set_params(contamination=share)
        assert (normal.scores_N > -detector.offset_).sum() == expected
    changed = images.copy()
    changed[held_out] = 255 - changed[held_out]
    other = ITAEDetector(**SMALL_DETECTOR).fit(changed)
    np.testing.assert_array_equal(detector.anomaly_scores(images), other.anomaly_scores(images))


def test_detector_maps_have_the_scores_as_means():
    images = np.uint8(load_digits().images[:20] * 15)  # of 8x8: enlarged inside
    detector = ITAEDetector(**SMALL_DETECTOR).fit(images)
    maps = detector.anomaly_maps(images)
    assert maps.shape == (20, 8, 8)
    np.testing.assert_allclose(maps.mean((1, 2)), detector.anomaly_scores(images), rtol=1e-5)


def test_a_detector_trained_on_crops_maps_whole_images_without_seams(rng):
    images = rng.integers(0, 256, (16, 24, 40), np.uint8)
    detector = ITAEDetector(**SMALL_DETECTOR | {"transform": "paste", "augment": "crop16"}).fit(images)
    maps, changed = detector.anomaly_maps(images), images.copy()
    np.testing.assert_allclose(maps.mean((1, 2)), detector.anomaly_scores(images), rtol=1e-5)
    changed[:, 16, 16] = 255 - images[:, 16, 16]  # where crops that lie side by side would meet
    differs = np.abs(detector.anomaly_maps(changed) - maps).max(0) > 1e-4
    assert differs[15:18, 15:18].all() and not differs[:, 28:].any()


def test_detector_exports_its_scores_and_threshold(detector, images, tmp_path):
    detector.export(tmp_path / "exported.jaxexport")
    scorer = export.load(tmp_path / "exported.jaxexport")
    np.testing.assert_allclose(
        scorer.score(images[..., None], 8).scores_N, detector.anomaly_scores(images), rtol=1e-5
    )
    assert scorer.threshold(detector.contamination) == pytest.approx(detector.threshold_)


def test_a_detector_of_tiny_images_scores_their_files_and_can_be_exported(tmp_path):
    images = np.uint8(load_digits().images[:20] * 15)
    detector = ITAEDetector(**SMALL_DETECTOR).fit(images)
    detector.save(tmp_path / "model")
    (tmp_path / "photos").mkdir()
    for index, image in enumerate(images):
        Image.fromarray(image).save(tmp_path / "photos" / f"{index:02}.png")
    model, table = str(tmp_path / "model"), tmp_path / "scores.csv"
    assert cli.main(["score", model, str(tmp_path / "photos"), "--out", str(table)]) == 0
    scores = [float(row["score"]) for row in files.read_csv(table)]
    np.testing.assert_allclose(scores, detector.anomaly_scores(images), rtol=1e-5)
    assert cli.main(["export", model, "--out", str(tmp_path / "model.jaxexport")]) == 0


def test_detector_takes_rows_and_stretches_other_numbers_from_black_to_white(detector, images):
    scores, rows = detector.anomaly_scores(images), images.reshape(60, -1)
    np.testing.assert_array_equal(detector.anomaly_scores(images[..., None]), scores)
    of_rows = clone(detector).set_params(image_shape=(16, 16)).fit(rows)
    np.testing.assert_array_equal(of_rows.anomaly_scores(rows), scores)
    shares = (rows.astype(float) - rows.min()) / (rows.max() - rows.min())
    of_floats = ITAEDetector(image_shape=(16, 16), **SMALL_DETECTOR).fit(shares * 7 - 3)
    assert of_floats.pixel_range_ == pytest.approx((-3, 4))
    pixels = np.uint8(np.rint(255 * shares)).reshape(images.shape)
    expected = ITAEDetector(**SMALL_DETECTOR).fit(pixels).anomaly_scores(pixels)
    np.testing.assert_array_equal(of_floats.anomaly_scores(shares * 7 - 3), expected)


def test_detector_makes_one_batch_of_fewer_images(images):
    detector = ITAEDetector(**{**SMALL_DETECTOR, "batch_size": 32}).fit(images[:10])
    assert detector.model_.experiment.train.batch_size == 8
    assert np.isfinite(detector.anomaly_scores(images)).all()


def test_detector_can_be_cloned_searched_over_and_put_in_a_pipeline(detector, images):
    assert clone(detector).get_params() == detector.get_params()
    assert not hasattr(detector, "transform")  # else it would be taken for a transformer
    assert "transform='rotate'" in repr(detector)
    pipeline = make_pipeline(FunctionTransformer(lambda images: images[:, ::-1]), clone(detector)).fit(images)
    flipped = clone(detector).fit(images[:, ::-1])
    np.testing.assert_array_equal(pipeline.predict(images), flipped.predict(images[:, ::-1]))
    search = GridSearchCV(
        clone(detector),
        {"epochs": [1, 2]},
        scoring=lambda detector, images, y=None: detector.score_samples(images).mean(),
        cv=2,
    ).fit(images)
    assert search.best_estimator_.model_.experiment.train.epochs == search.best_params_["epochs"]


def test_detector_gives_the_same_bits_saved_and_pickled(detector, images, tmp_path):
    detector.save(tmp_path / "model")
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    for copy in (ITAEDetector.load(tmp_path / "model"), pickle.loads(pickle.dumps(detector))):
        np.testing.assert_array_equal(copy.decision_function(images), detector.decision_function(images))
        np.testing.assert_array_equal(copy.anomaly_maps(images), detector.anomaly_maps(images))
        assert copy.get_params() == detector.get_params()


def test_a_pickled_detector_loads_on_a_machine_of_other_devices(detector, images):
    make, (config, train, evaluate, compute, shape) = detector.model_.trained.learner.__reduce__()
    assert make(config, train, evaluate, dataclasses.replace(compute, devices=64), shape).trainer.devices


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::RuntimeWarning")
def test_a_fork_of_a_process_that_used_jax_is_refused_and_does_not_hang(detector, images):
    with multiprocessing.get_context("fork").Pool(1) as pool:
        asked = pool.map_async(detector.predict, [images])
        with pytest.raises(RequestError, match="spawn"):
            asked.get(timeout=60)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::RuntimeWarning")
def test_no_call_hangs_in_a_fork(images, tmp_path):
    fitted = ITAEDetector(
        **SMALL_DETECTOR | {"settings": {"evaluate.batch_size": 8, "compute.devices": 1}}
    ).fit(images)
    fitted.save(tmp_path / "model")
    learner_for.cache_clear()  # so that a pickle finds no Learner
    calls = [(fitted.predict, images), (fitted.anomaly_maps, images), (ITAEDetector.load, tmp_path / "model")]
    with multiprocessing.get_context("fork").Pool(1) as pool:
        for function, argument in calls:
            asked = pool.map_async(function, [argument])
            with pytest.raises(RequestError, match="spawn"):
                asked.get(timeout=60)


def test_detector_says_that_images_show_little_and_that_training_takes_long(images, caplog, monkeypatch):
    seconds = itertools.count(step=400)
    monkeypatch.setattr("time.monotonic", lambda: next(seconds))
    ITAEDetector(**SMALL_DETECTOR | {"epochs": 3}).fit(images // 16)
    assert "of 255 levels" in caplog.text and "7 more minutes" in caplog.text


def test_detector_saved_and_loaded_takes_rows(tmp_path):
    rows = np.random.default_rng(0).normal(size=(20, 10))
    detector = ITAEDetector(image_shape="square", **SMALL_DETECTOR).fit(rows)
    detector.set_params(contamination=0.3).save(tmp_path / "model")
    loaded = ITAEDetector.load(tmp_path / "model")
    np.testing.assert_array_equal(loaded.decision_function(rows), detector.decision_function(rows))
    assert loaded.get_params() == detector.get_params()
    with pytest.raises(ValueError, match="10 features"):
        loaded.predict(rows[:, :9])
    with pytest.raises(RequestError, match="rows"):
        detector.export(tmp_path / "exported.jaxexport")


def test_detector_refuses_a_model_of_another_method(small_model_of):
    with pytest.raises(RequestError, match=r"method\.name=vae"):
        ITAEDetector.load(small_model_of("vae"))


def test_detector_overwrites_nothing(detector, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(RequestError, match="is not empty"):
        detector.save(tmp_path)
    with pytest.raises(RequestError, match="is a file"):
        detector.save(tmp_path / "notes.txt")
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


@pytest.fixture(scope="module")
def saved(detector, tmp_path_factory):
    directory = tmp_path_factory.mktemp("saved") / "model"
    detector.save(directory)
    return directory


def edit(field, value):
    def spoil(directory):
        record = section = json.loads((directory / "config.json").read_text())
        *sections, name = field.split(".")
        for key in sections:
            section = section[key]
        section[name] = value
        (directory / "config.json").write_text(json.dumps(record))

    return spoil


def cut(name, keep):
    return lambda directory: (directory / name).write_bytes((directory / name).read_bytes()[:keep])


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda directory: (directory / "config.json").unlink(), "no trained model there"),
        (cut("config.json", 100), "config.json: "),
        (cut("config.json", 0), "config.json: "),
        (edit("format", 1), "its format is 1"),
        (edit("experiment.method.width", "wide"), "expected a whole number"),
        (edit("experiment.train.pace", 3), "train.pace"),
        (edit("experiment.method.name", "os"), "method.name='os'"),
        (edit("image_shape", [16, 16]), "config.json: "),
        (edit("image_shape", [16, 16, 2]), "1 or 3 channels"),
        (edit("details", []), "expected a JSON object"),
        (edit("details.detector", {"contamination": "much"}), "details are damaged"),
        (edit("experiment.method.width", 4), "of another network"),
        (cut("normal_scores.csv", 150), "normal_scores.csv: was changed"),
        (cut("normal_scores.csv", 0), "normal_scores.csv: was changed"),
        (lambda directory: shutil.rmtree(directory / "state"), "is damaged"),
        (lambda directory: shutil.rmtree(directory / "state" / "arrays"), "is damaged"),
    ],
)
def test_load_refuses_a_damaged_model_in_one_line(saved, tmp_path, spoil, message):
    shutil.copytree(saved, tmp_path / "model")
    spoil(tmp_path / "model")
    with pytest.raises(RequestError, match=message) as error:
        ITAEDetector.load(tmp_path / "model")
    assert "\n" not in str(error.value)


GREY = np.zeros((20, 16, 16), np.uint8)


@pytest.mark.parametrize(
    "converted",
    [
        lambda x: x / 255,
        lambda x: x.astype(np.float32),
        lambda x: x / 127.5 - 1,
        lambda x: x.astype(int),
        lambda x: x.astype(np.uint16) * 257,
        lambda x: np.uint16(x / 255 * 4095),
        lambda x: np.float32(x / 255 * 4095),
        lambda x: (x / 255 - 0.5) * 1.001 + 0.5,  # as interpolation exceeds the range
    ],
)
def test_fit_says_how_to_convert_images_of_another_type(converted, rng):
    pixels = rng.integers(0, 256, (20, 16, 16)).astype(np.uint8)
    pixels[0, 0, :2] = 0, 255
    x = converted(pixels)
    with pytest.raises(RequestError, match="convert it by ") as refused:
        ITAEDetector(**SMALL_DETECTOR).fit(x)
    found = eval(str(refused.value).partition("convert it by ")[2], {"x": x})
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, pixels)


def test_false_positive_rate_is_that_of_the_command_line():
    scored = arguments.build().parse_args(["score", "model", "new", "--out", "scores.csv"])
    assert ITAEDetector().contamination == scored.false_positive_rate


def test_masks_of_0_and_1_become_black_and_white(rng):
    x = rng.integers(0, 2, (20, 16, 16))
    with pytest.raises(RequestError, match="convert it by ") as refused:
        ITAEDetector(**SMALL_DETECTOR).fit(x)
    found = eval(str(refused.value).partition("convert it by ")[2], {"x": x})
    np.testing.assert_array_equal(found, np.uint8(255) * x.astype(np.uint8))


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (GREY / 255, r"\(255 \* x.clip\(0, 1\)\).round\(\).astype\('uint8'\)"),
        (GREY.astype(np.int64) - 300, "expected uint8; scale it"),
        (GREY + np.nan, "NaN or infinity"),
        (GREY[0], "N x H x W"),
        (GREY[:0], "holds no images"),
        (GREY[:1], "at least 2 images"),
        (np.zeros((20, 16, 16, 4), np.uint8), "1 or 3 channels"),
        (np.zeros((20, 3, 16, 16), np.uint8), "channels come last"),
        (np.zeros((20, 16, 20), np.uint8), "needs square ones"),
        ([["a", "b"]], "N x H x W"),
        ([GREY[0], GREY[0, :8]], "different shapes"),
    ],
)
def test_fit_refuses_images_of_the_wrong_kind(bad, message):
    with pytest.raises(RequestError, match=message):
        ITAEDetector(**SMALL_DETECTOR).fit(bad)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"contamination": 0}, "contamination=0"),
        ({"contamination": "auto"}, "contamination='auto'"),
        ({"holdout": None}, "holdout=None"),
        ({"settings": "a=b"}, "settings='a=b'"),
        ({"settings": {1: 2}}, "settings={1: 2}"),
        ({"image_shape": 16}, "image_shape=16"),
        ({"contamination": 0.6}, "contamination=0.6"),
        ({"holdout": 1}, "holdout=1"),
        ({"epochs": 0}, "epochs=0"),
        ({"epochs": "10"}, "train.epochs='10'"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"learning_rate": 0.0}, "learning_rate=0"),
        ({"random_state": -1}, "random_state=-1"),
        ({"transform": "melt"}, "'melt' is not a transform"),
        ({"width": 2.5}, "method.width=2.5"),
        ({"settings": {"method.los": "l1"}}, "method.loss"),
        ({"image_shape": (4, 4)}, "rows of 16"),
        ({"image_shape": "round"}, "'round'"),
        ({"image_shape": (3, 1, 2)}, "C being 1 or 3"),
    ],
)
def test_fit_refuses_parameters_that_make_no_sense(parameters, message):
    rows = "image_shape" in parameters
    with pytest.raises(RequestError, match=message):
        ITAEDetector(**SMALL_DETECTOR | parameters).fit(np.zeros((20, 6)) if rows else GREY)


def test_detector_does_nothing_before_fitting_and_takes_one_shape_after(detector, images, tmp_path):
    new = ITAEDetector()
    for use, given in (
        *((use, images) for use in (new.predict, new.anomaly_scores, new.anomaly_maps)),
        (new.save, tmp_path / "model"),
    ):
        with pytest.raises(NotFittedError):
            use(given)
    with pytest.raises(RequestError, match="fitted on images of 16x16x1"):
        detector.predict(np.zeros((2, 20, 20), np.uint8))


def test_detector_trains_on_one_image_at_least():
    few = ITAEDetector(**SMALL_DETECTOR | {"holdout": 0.9}).fit(GREY[:4])
    assert (few.model_.trained.num_train, len(few.model_.normal.ids)) == (1, 3)
    with pytest.raises(RequestError, match="at least 2 images"):
        ITAEDetector(**SMALL_DETECTOR).fit(GREY[:1])


@pytest.mark.parametrize("count", [1, 4, 19, 20, 99, 152])
@pytest.mark.parametrize("rate", [0.01, 0.05, 0.1, 0.5, 0.9])
def test_threshold_keeps_the_false_positive_rate_on_new_normal_images(rng, count, rate):
    scores = rng.normal(size=(4000, count + 1))
    thresholds = np.array([threshold(row[:-1], rate) for row in scores])
    share = (scores[:, -1] > thresholds).mean()
    stated = max(rate, 1 / (count + 1))
    assert share < stated + 4 * np.sqrt(stated / 4000)
    assert share > stated - 1 / (count + 1) - 4 * np.sqrt(stated / 4000)


# Checks that count anomalies among the training rows need a threshold from these: nothing is held out.
CHECKED = ITAEDetector(**SMALL_DETECTOR, image_shape="square", holdout=0)


@parametrize_with_checks([CHECKED])
def test_detector_passes_scikit_learns_checks(estimator, check):
    check(estimator)

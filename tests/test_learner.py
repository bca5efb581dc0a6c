"""From images to scores and maps: what is read, saved, refused, and compiled once."""

import pickle

import jax
import numpy as np
import pytest
from conftest import make_learner, tiny

from itae_jax.data import as_images
from itae_jax.data.images import ArrayImages
from itae_jax.errors import DivergedError, RequestError
from itae_jax.evaluate import anomaly_scores, auroc
from itae_jax.training import learner as learners

pytestmark = pytest.mark.usefixtures("tiny_network")


def fit(learner, images, seeds=(0,)):
    return learner.fit(as_images(images), seeds, lambda report, trained: None)


@pytest.fixture(scope="module")
def trained(bars, tiny_network):
    return fit(make_learner(tiny("itae", "train.epochs=10", "compute.devices=2")), bars)


def test_score_and_columns_follow_equation_3(trained, bars):
    scores = trained.score(bars)
    errors_NxT = np.stack([scores.columns[f"error_{index}"] for index in range(4)], 1)
    expected = anomaly_scores(errors_NxT, errors_NxT.mean(0))
    np.testing.assert_allclose(scores.scores_N, expected, rtol=1e-6)
    np.testing.assert_array_equal(scores.scores_N, scores.columns["score_l1"])
    np.testing.assert_allclose(trained.anomaly_maps(bars).mean((1, 2)), scores.scores_N, rtol=1e-4)


def moved(trained, settings, directory):
    """The same trained method with other settings of scoring."""
    trained.save(directory / "state")
    learner = make_learner(tiny("itae", *settings))
    return learner.trained(*learner.read(directory / "state"))


def test_batches_padding_and_devices_change_only_rounding(trained, bars, tmp_path):
    expected = trained.score(bars).scores_N
    for batch_size, devices in ((1, 1), (3, 4)):
        settings = [f"evaluate.batch_size={batch_size}", f"compute.devices={devices}"]
        other = moved(trained, settings, tmp_path)
        np.testing.assert_allclose(other.score(bars).scores_N, expected, rtol=1e-5)
        assert 0 < other.memory_bytes() < trained.memory_bytes()


def test_a_cpu_scores_few_images_at_a_time_unless_asked(bars):
    learner = make_learner(tiny("itae", "evaluate.batch_size=0"), (32, 32, 1))
    images = as_images(np.zeros((100, 32, 32, 1), np.uint8))
    variables = learner.trainer.initial_state((0,)).method.variables
    assert [len(one.positions) for one in learner.measure(variables, images)] == [64, 36]


def test_unreadable_images_have_no_score_and_no_map(trained, bars):
    images = ArrayImages(bars, frozenset({0, 7}))
    scores, maps = trained.score(images), trained.anomaly_maps(images)
    for values in (scores.scores_N, *scores.columns.values(), maps[:, 0, 0]):
        assert np.flatnonzero(np.isnan(values)).tolist() == [0, 7]
    readable = np.delete(np.arange(40), [0, 7])
    np.testing.assert_allclose(scores.scores_N[readable], trained.score(bars).scores_N[readable], rtol=1e-6)
    positions = np.concatenate([one.positions for one in trained.measure(images)])
    assert positions.tolist() == readable.tolist()
    with pytest.raises(RequestError, match="none of the images can be read"):
        learners.gather(trained.measure(ArrayImages(bars, frozenset(range(40)))))


def test_images_of_another_type_or_shape_are_refused(trained, bars):
    with pytest.raises(TypeError, match="uint8 images, got float64"):
        trained.score(bars / 255)
    for use in (trained.score, trained.anomaly_maps, lambda images: fit(trained.learner, images)):
        with pytest.raises(RequestError, match="16x12x1: expected 16x16x1"):
            use(bars[:, :, :12])


def test_measurements_that_are_not_finite_are_a_failed_training(bars, monkeypatch):
    learner = make_learner(tiny("itae", "train.epochs=1"))
    measure = learner.method.measure
    monkeypatch.setattr(learner.method, "measure", lambda *args: jax.tree.map(lambda x: x / 0, measure(*args)))
    with pytest.raises(DivergedError, match=r"not finite; lower train\.learning_rate"):
        fit(learner, bars)


def test_reports_can_score_with_the_method_as_trained_so_far(bars):
    learner = make_learner(tiny("itae", "train.epochs=3", "evaluate.every_epochs=2"))
    found = {}
    trained = learner.fit(
        as_images(bars),
        (0,),
        lambda report, so_far: found.update({report.epoch: so_far().score(bars).scores_N}),
    )
    assert list(found) == [2, 3]
    np.testing.assert_array_equal(found[3], trained.score(bars).scores_N)
    assert not np.array_equal(found[2], found[3])
    assert (trained.num_train, trained.train_seconds > 0) == (40, True)


def test_learners_are_cached_and_survive_pickling():
    one = tiny("itae")
    first = learners.learner_for(one.method, one.train, one.evaluate, one.compute, (16, 16, 1))
    assert learners.learner_for(one.method, one.train, one.evaluate, one.compute, (16, 16, 1)) is first
    assert pickle.loads(pickle.dumps(first)) is first
    other = tiny("itae", "method.width=5")
    assert learners.learner_for(other.method, one.train, one.evaluate, one.compute, (16, 16, 1)) is not first
    longer = first.with_epochs(one.train.epochs + 1)
    assert [learner.trainer.config.epochs for learner in (first, longer)] == [
        one.train.epochs,
        one.train.epochs + 1,
    ]


def test_the_same_parameters_in_bfloat16_rank_alike(bars, rng, tmp_path):
    noise = rng.normal(size=bars.shape) * np.linspace(0, 40, 40).reshape(-1, 1, 1, 1)  # hardly any to much
    tested = np.concatenate([bars, np.clip(bars + noise, 0, 255).astype(np.uint8)])
    trained = fit(make_learner(tiny("itae", "train.epochs=20", "train.learning_rate=0.02")), bars)
    coarse = moved(trained, ["compute.dtype=bfloat16"], tmp_path)
    fine, rounded = (auroc(np.arange(80) >= 40, one.score(tested).scores_N) for one in (trained, coarse))
    assert 0.05 < fine < 0.95
    assert rounded == pytest.approx(fine, abs=0.005)

"""Laws of every method, and the seam that keeps methods apart from the rest."""

import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import make_learner, tiny

import itae_jax
from itae_jax import methods
from itae_jax.data import as_images
from itae_jax.errors import RequestError
from itae_jax.evaluate import auroc
from itae_jax.training.learner import gather
from itae_jax.transforms import to_float

pytestmark = pytest.mark.usefixtures("tiny_network")
PACKAGE = Path(itae_jax.__file__).parent


OF_DEFECTS = [
    *("method.transform=paste", "method.head=2", "method.error=head", "method.reduce=max", "method.msgms=1"),
    *("method.ssim=1", "method.combine=max", "train.schedule=cosine"),
]
OF_FEATURES = ["method.error=features", "method.combine=first"]
CASES = {name: (name,) for name in methods.names()}
CASES |= {"defects": ("itae", *OF_DEFECTS), "features": ("itae", *OF_FEATURES)}


def fit(learner, images):
    return learner.fit(as_images(images), (0,), lambda report, trained: None)


@pytest.fixture(scope="module", params=CASES)
def trained(request, bars, tiny_network):
    """A method after some steps."""
    return fit(
        make_learner(
            tiny(*CASES[request.param], "train.epochs=10", "train.learning_rate=0.02", "evaluate.batch_size=2")
        ),
        bars,
    )


@pytest.fixture(scope="module")
def measured(trained, bars):
    return gather(trained.measure(bars))


def test_score_of_corrupted_images_is_higher(trained, bars):
    if getattr(trained.learner.config, "head", 0):
        pytest.skip("a head needs more steps")
    scores = np.concatenate([trained.score(images).scores_N for images in (bars, 255 - bars)])
    assert auroc(np.arange(80) >= 40, scores) > 0.95


def test_measure_of_a_batch_is_that_of_each_image(trained, bars, measured):
    measure = jax.jit(trained.learner.method.measure)
    for position in (0, 7, 39):
        alone = measure(trained.variables, to_float(jnp.asarray(bars[position : position + 1])))
        assert alone.keys() == measured.keys()
        for name, values in alone.items():
            np.testing.assert_allclose(values[0], measured[name][position], rtol=1e-4, err_msg=name)


def test_score_is_the_same_by_numpy_and_jax(trained, measured):
    method = trained.learner.method
    on_device = {name: jnp.asarray(values) for name, values in measured.items()}
    np.testing.assert_allclose(
        method.score(on_device, trained.calibration),
        method.score(measured, trained.calibration),
        rtol=1e-5,
        atol=1e-5,
    )


def test_anomaly_map_has_mean_one_over_the_training_images(trained, bars):
    if not trained.learner.has_maps:
        pytest.skip("has no maps")
    maps = trained.anomaly_maps(bars)
    assert maps.shape == bars.shape[:3] and (maps >= 0).all()
    assert maps.mean() == pytest.approx(1, rel=1e-4)


def test_examples_are_pairs_of_images_with_a_title_each(trained, bars):
    if not hasattr(trained.learner.method, "examples"):
        pytest.skip("has no examples")
    pair = trained.learner.method.examples(
        trained.variables, trained.calibration, to_float(jnp.asarray(bars[:3]))
    )
    shown = trained.illustrate(bars[:3])
    for images, name in zip(pair, ("inputs", "outputs"), strict=True):
        assert images.shape[1:4] == (3, 16, 16) and images.shape[4] in (1, 3)
        assert np.abs(images).max() <= 1
        np.testing.assert_array_equal(shown[name], np.rint((np.asarray(images) + 1) * 127.5).astype(np.uint8))
        assert len(trained.learner.config.example_titles(len(images))) == len(images)


def test_saved_method_scores_the_same_bits(trained, bars, tmp_path):
    trained.save(tmp_path / "state")
    again = trained.learner.trained(*trained.learner.read(tmp_path / "state"))
    assert (again.num_train, again.train_seconds) == (40, trained.train_seconds)
    for ours, theirs in zip(jax.tree.leaves(again.variables), jax.tree.leaves(trained.variables), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    np.testing.assert_array_equal(again.score(bars).scores_N, trained.score(bars).scores_N)


# The other updates are compared on two devices with those of PyTorch, and ITAE's in test_trainer.py.
def test_update_with_parts_of_other_images_on_four_devices_is_that_on_one(make_trainer, bars):
    with jax.enable_x64(True):
        found = []
        for devices in (1, 4):
            settings = ["method.transform=paste", "method.head=2", "compute.dtype=float64"]
            trainer = make_trainer("itae", *settings, f"compute.devices={devices}")
            state, metrics = trainer.initial_state((0,)), []
            for step in range(3):
                batch = bars[8 * step : 8 * step + 8][None]
                state, of_step = trainer.run_steps(state, np.full(1, trainer.config.learning_rate), batch)
                metrics.append(of_step)
            assert all(value.shape == (1,) for value in of_step.values()) and "loss" in of_step
            found.append((metrics, state.method))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-12), *found)


def test_method_that_cannot_take_the_images_says_which_size_it_needs():
    for name in ("itae", "vae"):
        with pytest.raises(RequestError, match=r"images of 4x9 .*set data\.image_size"):
            make_learner(tiny(name, *(["method.transform=identity"] if name == "itae" else [])), (4, 9, 1))


OF_ITAE = re.compile(r"error_\d|[\"']error_(?!maps)|normal_errors|method\.transform|method\.width|ITAEConfig")
MAY_KNOW = ("methods/", "transforms/", "models/", "evaluate/restoration.py", "detection/detector.py")


def test_no_other_module_uses_the_words_of_a_method():
    found = {
        f"{path.relative_to(PACKAGE)}:{number}: {line.strip()}"
        for path in PACKAGE.rglob("*.py")
        if not path.relative_to(PACKAGE).as_posix().startswith(MAY_KNOW)
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if OF_ITAE.search(line)
    }
    assert not found

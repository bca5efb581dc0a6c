"""PCA, nearest neighbours and the isolation forest against scikit-learn's own."""

import numpy as np
import pytest
from conftest import make_learner, save_images, tiny
from scipy.ndimage import gaussian_filter, zoom
from skimage.feature import hog
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest
from sklearn.neighbors import NearestNeighbors

from itae_jax import cli, experiment, files
from itae_jax.data import as_images
from itae_jax.detection import export
from itae_jax.detection import model as models
from itae_jax.training.learner import gather

SHAPE, NUM_TRAIN = (9, 12, 3), 48
METHODS = ("pca", "knn", "iforest")


@pytest.fixture(scope="module")
def images():
    """Training and new images: noise around a few patterns."""
    rng = np.random.default_rng(0)
    patterns = rng.integers(0, 200, (5, *SHAPE))
    noisy = patterns[rng.integers(0, 5, NUM_TRAIN + 300)] + rng.integers(0, 56, (NUM_TRAIN + 300, *SHAPE))
    return np.split(noisy.astype(np.uint8), [NUM_TRAIN])


def fit(name, training, *assignments):
    learner = make_learner(tiny(name, *assignments), training.shape[1:])
    return learner.fit(as_images(training), (0,), lambda report, trained: None)


def rows_of_pixels(images):
    return images.reshape(len(images), -1).astype(np.float64) / 127.5 - 1


def pca_errors(images, training, error, reduce):
    """The errors of scikit-learn's reconstructions."""
    pca = PCA(0.8).fit(rows_of_pixels(training))
    rows = rows_of_pixels(images)
    difference = np.abs(pca.inverse_transform(pca.transform(rows)) - rows) ** {"l1": 1, "l2": 2}[error]
    maps = difference.reshape(len(images), *SHAPE).mean(3)
    if reduce == "mean":
        return maps.mean((1, 2))
    return np.array([gaussian_filter(one, 12 / 64, mode="nearest").max() for one in maps])


@pytest.mark.parametrize("error", ["l1", "l2"])
@pytest.mark.parametrize("reduce", ["mean", "max"])
def test_pca_scores_by_the_error_of_scikit_learns_reconstruction(images, error, reduce):
    training, new = images
    trained = fit("pca", training, "method.variance=0.8", f"method.error={error}", f"method.reduce={reduce}")
    normal = pca_errors(training, training, error, reduce).mean()
    expected = pca_errors(new, training, error, reduce) / normal
    np.testing.assert_allclose(trained.score(new).scores_N, expected, rtol=1e-4)
    assert trained.score(training).scores_N.mean() == pytest.approx(1, rel=1e-5)


@pytest.mark.parametrize("k", [1, 4])
def test_knn_scores_by_the_distance_of_scikit_learns_neighbours(images, k):
    training, new = images
    training = np.concatenate([training, training[:1]])  # a copy is a neighbour, an image itself is none
    trained = fit("knn", training, f"method.k={k}")
    search = NearestNeighbors(n_neighbors=k).fit(rows_of_pixels(training))
    others, _ = search.kneighbors()
    distances, _ = search.kneighbors(rows_of_pixels(new))
    np.testing.assert_allclose(trained.score(new).scores_N, distances.mean(1) / others.mean(), rtol=1e-4)
    if k == 1:
        assert trained.score(training).scores_N.mean() == 0


@pytest.mark.parametrize("shape", [(32, 48, 3), (40, 24, 1)])
def test_knn_of_gradients_scores_by_the_distance_of_scikit_images_histograms(shape):
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (NUM_TRAIN + 20, 9, 7, shape[2]))
    zoomed = [zoom(one.astype(float), (shape[0] / 9, shape[1] / 7, 1), order=1) for one in coarse]
    pixels = np.stack(zoomed).round().astype(np.uint8)
    of_gradients = np.stack([hog(one / 127.5 - 1, channel_axis=-1, cells_per_block=(2, 2)) for one in pixels])
    training, new = np.split(of_gradients, [NUM_TRAIN])
    search = NearestNeighbors(n_neighbors=2).fit(training)
    trained = fit("knn", pixels[:NUM_TRAIN], "method.features=hog", "method.k=2")
    expected = search.kneighbors(new)[0].mean(1) / search.kneighbors()[0].mean()
    # Rounding decides between channels of the same gradient.
    np.testing.assert_allclose(trained.score(pixels[NUM_TRAIN:]).scores_N, expected, rtol=1e-2)


@pytest.mark.parametrize("samples", [2, 32, 256])
def test_iforest_scores_as_scikit_learn_does(images, samples):
    training, new = images
    settings = ["method.trees=20", f"method.samples={samples}", "method.random_state=3"]
    forest = IsolationForest(n_estimators=20, max_samples=min(samples, NUM_TRAIN), random_state=3)
    forest.fit(rows_of_pixels(training))
    expected = -forest.score_samples(rows_of_pixels(new))
    np.testing.assert_allclose(fit("iforest", training, *settings).score(new).scores_N, expected, rtol=1e-4)


@pytest.mark.parametrize("name", METHODS)
def test_four_devices_score_as_one_does_and_an_image_alone_as_among_others(images, name):
    training, new = images
    one, four = (fit(name, training, f"compute.devices={devices}").score(new).scores_N for devices in (1, 4))
    np.testing.assert_array_equal(one, four)
    np.testing.assert_array_equal(fit(name, training).score(new[7:8]).scores_N, one[7:8])


@pytest.mark.parametrize("name", METHODS)
def test_large_images_are_reduced_and_shown_in_their_size(images, name):
    training = images[0].repeat(4, 1).repeat(3, 2)  # 36 x 36
    trained = fit(name, training, "method.side=18")
    pixels = gather(trained.measure(training))["pixels"]
    assert pixels.shape == (NUM_TRAIN, 18 * 18 * 3)
    np.testing.assert_allclose(pixels.mean(1), rows_of_pixels(training).mean(1), atol=0.02)
    if name == "pca":
        maps, shown = trained.anomaly_maps(training), trained.illustrate(training[:2])
        assert maps.shape == (NUM_TRAIN, 36, 36) and maps.mean() == pytest.approx(1, rel=0.02)
        assert shown["inputs"].shape == shown["outputs"].shape == (1, 2, 36, 36, 3)
        assert np.abs(shown["outputs"].astype(float) - training[:2]).mean() < 40


@pytest.mark.parametrize("name", METHODS)
def test_images_that_are_all_the_same_have_finite_scores(images, name):
    training = images[0][:1].repeat(8, 0)
    assert np.isfinite(fit(name, training).score(images[1][:3]).scores_N).all()


@pytest.fixture(scope="module", params=METHODS)
def model(request, tmp_path_factory):
    """A model that `itae fit` made, without saying how long, of the folder beside it."""
    root = tmp_path_factory.mktemp(request.param)
    save_images(root / "good", 20)
    command = ["fit", str(root / "good"), "--out", str(root / "model"), "--size", "16"]
    assert cli.main([*command, "--set", f"method.name={request.param}", "evaluate.batch_size=8"]) == 0
    return root / "model"


def test_fit_takes_one_pass_of_images_as_they_are(model):
    train = models.load(model).experiment.train
    assert (train.epochs, train.augment) == (1, "none")


def test_saved_and_exported_models_score_the_same(model, tmp_path, refused):
    out, scored = tmp_path / "scores.csv", model.parent / "good"
    assert cli.main(["score", str(model), str(scored), "--out", str(out)]) == 0
    scores = [float(row["score"]) for row in files.read_csv(out)]
    loaded = models.load(model)
    pixels = np.stack([loaded.reader.read(path) for path in sorted(scored.iterdir())])
    np.testing.assert_allclose(scores, loaded.trained.score(pixels).scores_N, rtol=1e-6)
    exported = tmp_path / "model.jaxexport"
    assert cli.main(["export", str(model), "--out", str(exported)]) == 0
    np.testing.assert_allclose(export.load(exported).score(pixels).scores_N, scores, rtol=1e-4, atol=1e-6)
    assert exported.with_name("model.jaxexport.json").stat().st_size < 10_000
    assert "no weights" in refused("export", model, "--out", tmp_path / "model.safetensors")


def test_report_of_a_model_and_its_scores(model, tmp_path, refused):
    out, maps = tmp_path / "scores.csv", tmp_path / "maps"
    command = ["score", str(model), str(model.parent / "good"), "--out", str(out), "--heatmaps", str(maps)]
    if models.load(model).trained.learner.has_maps:
        assert cli.main(command) == 0
        assert len(list(maps.glob("*.png"))) == 20
    else:
        assert "has no anomaly maps" in refused(*command)
        assert cli.main(command[:-2]) == 0
    assert cli.main(["report", str(out), "--model", str(model)]) == cli.main(["report", str(model)]) == 0


@pytest.mark.parametrize("name", METHODS)
def test_run_of_a_method_takes_one_epoch_unless_asked(name, tmp_path):
    digits = experiment.load(experiment.find("digits"))[""]
    assert experiment.override(digits, [f"method.name={name}"]).train.epochs == 1
    assert experiment.override(digits, [f"method.name={name}", "train.epochs=3"]).train.epochs == 3
    limits = ["data.limit_train=40", "data.limit_test=80", "evaluate.batch_size=8"]
    command = ["run", "digits", "--classes", "6", "--out", str(tmp_path / "run")]
    assert cli.main([*command, "--set", f"method.name={name}", *limits]) == 0
    (row,) = files.read_csv(tmp_path / "run" / "results.csv")
    assert float(row["auroc"]) > 0.95 and (tmp_path / "run" / "report.html").is_file()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["method.name=knn", "method.k=500"], "method.k=500: the 127 training images"),
        (["method.name=pca", "method.variance=1"], "method.variance=1.0: expected at most"),
        (["method.name=pca", "method.reduce=melt"], "choose from mean, max, top"),
        (["method.name=iforest", "method.samples=1"], "method.samples=1: expected at least 2"),
        (["method.name=_pixels"], "choose from ensemble, ganomaly, geotrans, iforest, itae, knn, pca, vae"),
    ],
)
def test_bad_setting_gets_one_line(settings, message, refused, tmp_path):
    assert message in refused("run", "digits", "--classes", "6", "--out", tmp_path / "x", "--set", *settings)

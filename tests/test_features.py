"""The errors of a network's features against scikit-learn, and the score that they give."""

import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.covariance import LedoitWolf
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from itae_jax import experiment, methods
from itae_jax.errors import RequestError
from itae_jax.evaluate import anomaly_scores, features
from itae_jax.experiment import Experiment


def drawn(rng, members):
    """Two arrays N x T x F: those of a member lie around its own point."""
    return {
        name: rng.normal(size=(60, members, size)) + 2 * rng.normal(size=(members, size))
        for name, size in (("middle", 3), ("deepest", 5))
    }


def rows(measured, chosen):
    return {name: values[chosen] for name, values in measured.items()}


def as_float32(measured):
    return {name: jnp.asarray(values, "float32") for name, values in measured.items()}


def built(*settings):
    chosen = experiment.override(Experiment(), [f"method.{setting}" for setting in settings])
    return methods.build(chosen.method, (16, 16, 1), "float32")


@pytest.mark.parametrize("members", [2, 3, 4])
def test_errors_are_those_of_scikit_learn_on_new_images(rng, members):
    measured = drawn(rng, members)
    known, new = rows(measured, slice(40)), rows(measured, slice(40, None))
    probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, tol=1e-8))
    probe.fit(known["deepest"].reshape(-1, 5), np.tile(np.arange(members), 40))
    expected = {
        "probe": [-probe.predict_log_proba(new["deepest"][:, t])[:, t] for t in range(members)],
        "distance": [
            LedoitWolf().fit(known["middle"][:, t]).mahalanobis(new["middle"][:, t]) for t in range(members)
        ],
    }
    fitted = features.fit(known)
    for name, values in expected.items():
        for found in (features.errors(new, fitted), features.errors(as_float32(new), fitted)):
            np.testing.assert_allclose(found[name], np.stack(values, 1), rtol=1e-4, atol=5e-3)


def test_probe_of_a_sure_answer_is_small_and_not_zero(rng):
    measured = drawn(rng, 3)
    fitted = features.fit(measured)
    sure = measured | {"deepest": measured["deepest"] * 12}
    for values in (features.errors(sure, fitted)["probe"], features.errors(as_float32(sure), fitted)["probe"]):
        assert 0 < values.min() < 1e-8


def test_score_is_eq_3_of_the_geometric_mean(rng):
    method = built("error=features", "transform=rotate", "combine=first")
    measured = {kind: rng.uniform(0.1, 1, (60, 4)) for kind in ("l1", "l2", "relative")} | drawn(rng, 4)
    calibration = method.calibrate(measured)
    found = features.errors(measured, features.fit(measured))
    errors_NxT = np.exp(np.log([measured["l1"], found["probe"], found["distance"], found["distance"]]).mean(0))
    kinds = {"features": errors_NxT, "l1": measured["l1"], **found}
    columns = method.columns(measured, calibration)
    assert columns.keys() == set(method.components)
    for name, errors in kinds.items():
        expected = anomaly_scores(errors, errors.mean(0), "first")
        np.testing.assert_allclose(columns[f"score_{name}"], expected)
    np.testing.assert_allclose(method.score(measured, calibration), columns["score_features"])


@pytest.mark.parametrize("setting", ["transform=identity", "views=flip", "head=2"])
def test_features_are_refused_where_they_mean_nothing(setting):
    with pytest.raises(RequestError, match=r"method\.error=features"):
        built("transform=rotate", "error=features", setting)
    with pytest.raises(RequestError, match=r"method\.name=itae"):
        built("name=ensemble", "transform=rotate", "error=features")

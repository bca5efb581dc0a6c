"""Many devices give what one gives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from itae_jax import parallel
from itae_jax.errors import RequestError


@pytest.mark.parametrize("count", [1, 2, 4])
def test_split_batch_returns_rows_in_the_order_of_the_batch(count, rng):
    batch = rng.normal(size=(8, 3)).astype(np.float32)
    double = parallel.split_batch(lambda factor, x: x * factor, jax.devices()[:count], replicated_result=False)
    np.testing.assert_array_equal(double(jnp.float32(2), batch), batch * 2)
    assert double.memory_bytes(jnp.float32(2), batch) > 0


@pytest.mark.parametrize("count", [1, 2, 4])
def test_mean_and_example_indices_are_those_of_the_whole_batch(count, rng):
    batch = rng.normal(size=(2, 8)).astype(np.float32)

    def function(weight, x):
        places = parallel.example_indices(x.shape[1]).astype(jnp.float32)
        return parallel.mean((x * weight * places[None]).mean())

    mapped = parallel.split_batch(function, jax.devices()[:count], replicated_result=True)
    expected = (batch * 3 * np.arange(8)).mean()
    assert float(mapped(jnp.float32(3), batch, axis=1)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("batch", "requested", "chosen"), [(32, 0, 4), (6, 0, 3), (7, 0, 1), (2, 0, 2), (9, 3, 3)]
)
def test_choose_devices_takes_the_most_that_divide_the_batch(batch, requested, chosen):
    assert len(parallel.choose_devices(batch, requested)) == chosen


@pytest.mark.parametrize(
    ("batch", "requested", "named"),
    [(9, 2, r"train\.batch_size=9 .* 2 devices"), (10, 5, r"compute\.devices=5.* 4")],
)
def test_choose_devices_names_what_does_not_fit(batch, requested, named):
    with pytest.raises(RequestError, match=named):
        parallel.choose_devices(batch, requested)


def test_any_of_is_the_maximum_over_the_devices():
    assert parallel.any_of([True, False], jax.devices()).tolist() == [1, 0]
    assert parallel.is_any(True, jax.devices()) and not parallel.is_any(False, jax.devices())

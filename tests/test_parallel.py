"""Many devices give what one gives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from itae_jax import parallel
from itae_jax.errors import RequestError


@pytest.mark.parametrize("count", [1, 2, 4])
def test_a_batch_split_over_devices_comes_back_in_order(count, rng):
    batch = rng.normal(size=(8, 3)).astype(np.float32)
    double = parallel.split_batch(lambda factor, x: x * factor, jax.devices()[:count], replicated_result=False)
    np.testing.assert_array_equal(double(jnp.float32(2), batch), batch * 2)


@pytest.mark.parametrize("count", [1, 2, 4])
def test_mean_and_places_are_those_of_the_whole_batch(count, rng):
    batch = rng.normal(size=(2, 8)).astype(np.float32)

    def function(weight, x):
        places = parallel.example_indices(x.shape[1]).astype(jnp.float32)
        return parallel.mean((x * weight * places[None]).mean())

    mapped = parallel.split_batch(function, jax.devices()[:count], replicated_result=True)
    expected = (batch * 3 * np.arange(8)).mean()
    assert float(mapped(jnp.float32(3), batch, axis=1)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("batch", "chosen"), [(32, 4), (6, 3), (7, 1), (2, 2)])
def test_cpu_devices_fall_back_to_a_divisor_of_the_batch(batch, chosen):
    assert len(parallel.choose_devices(batch)) == chosen


def test_requested_devices_must_divide_the_batch():
    assert len(parallel.choose_devices(9, 3)) == 3
    with pytest.raises(RequestError, match=r"train\.batch_size=9 is not divisible by the 2 devices"):
        parallel.choose_devices(9, 2)


def test_more_devices_than_there_are_is_refused():
    with pytest.raises(RequestError, match=r"compute\.devices=5: this machine has 4"):
        parallel.choose_devices(10, 5)

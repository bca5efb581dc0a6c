"""What is saved comes back."""

import jax
import numpy as np

from itae_jax import checkpoint


def test_round_trip_is_exact(tmp_path, rng):
    tree = {"a": {"kernel": rng.normal(size=(3, 4)).astype(np.float32)}, "step": np.int32(7), "n": np.ones(4)}
    checkpoint.save(tmp_path / "state", tree)
    restored = checkpoint.restore(tmp_path / "state", jax.tree.map(np.zeros_like, tree))
    jax.tree.map(np.testing.assert_array_equal, restored, tree)


def test_a_second_save_replaces_the_first(tmp_path):
    for value in (1.0, 2.0):
        checkpoint.save(tmp_path / "state", {"x": np.full(3, value)})
    assert checkpoint.restore(tmp_path / "state", {"x": np.zeros(3)})["x"].tolist() == [2.0] * 3

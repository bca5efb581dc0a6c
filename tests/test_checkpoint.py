"""What is saved comes back, or is known to be damaged."""

import errno
import json
import os
import pickle
import resource

import jax
import numpy as np
import pytest

from itae_jax.errors import DamagedError, RequestError
from itae_jax.training import checkpoint
from itae_jax.training.checkpoint import Checkpoints


def tree_of(value=1.0):
    return {"a": {"kernel": np.full((30, 40), value, np.float32)}, "step": np.int32(7), "n": np.ones(4)}


LIKE = jax.tree.map(lambda array: jax.ShapeDtypeStruct(array.shape, array.dtype), tree_of())


def test_round_trip_is_exact(tmp_path, rng):
    tree = tree_of() | {"noise": rng.normal(size=(3, 4)), "half": np.ones(3, jax.numpy.bfloat16)}
    checkpoint.save(tmp_path / "state", tree, {"epoch": 3, "loss": 0.1 + 0.2})
    restored, facts = checkpoint.restore(tmp_path / "state", tree, {"epoch": int, "loss": float})
    jax.tree.map(np.testing.assert_array_equal, restored, tree)
    assert all(a.dtype == b.dtype for a, b in zip(*map(jax.tree.leaves, (restored, tree)), strict=True))
    assert facts == {"epoch": 3, "loss": 0.1 + 0.2}


def test_a_second_save_replaces_the_first(tmp_path):
    for value in (1.0, 2.0):
        checkpoint.save(tmp_path / "state", tree_of(value))
    restored, _ = checkpoint.restore(tmp_path / "state", LIKE, {})
    np.testing.assert_array_equal(restored["a"]["kernel"], tree_of(2.0)["a"]["kernel"])
    assert [path.name for path in tmp_path.iterdir()] == ["state"]


def spoil(path, how):
    data = path.read_bytes()
    if how == "missing":
        path.unlink()
    elif how == "cut short":
        path.write_bytes(data[:-1])
    elif how == "emptied":
        path.write_bytes(b"")
    elif how == "flipped":
        middle = len(data) // 2
        path.write_bytes(data[:middle] + bytes([data[middle] ^ 4]) + data[middle + 1 :])
    elif how == "pickled":
        path.write_bytes(pickle.dumps(Poison()))


class Poison:
    """Says that it was unpickled by ending the process."""

    def __reduce__(self):
        return os._exit, (77,)


@pytest.mark.parametrize("how", ["missing", "cut short", "emptied", "flipped", "pickled"])
def test_damage_to_any_file_is_found(tmp_path, how):
    state = tmp_path / "state"
    checkpoint.save(state, tree_of(), {"epoch": 1})
    files = sorted(path for path in state.rglob("*") if path.is_file())
    assert len(files) > 3
    for path in files:
        before = path.read_bytes()
        if how in ("missing", "flipped") and not before:
            continue  # nothing to flip; checked by name alone
        spoil(path, how)
        with pytest.raises(DamagedError, match=str(state)):
            checkpoint.restore(state, LIKE, {"epoch": int})
        path.write_bytes(before)
    checkpoint.restore(state, LIKE, {"epoch": int})


def test_another_network_is_refused_by_name(tmp_path):
    checkpoint.save(tmp_path / "state", tree_of())
    like = LIKE | {"a": {"kernel": jax.ShapeDtypeStruct((30, 41), np.float32)}}
    with pytest.raises(
        RequestError, match=r"a\.kernel is float32 \[30, 40\] there, expected float32 \[30, 41\]"
    ):
        checkpoint.restore(tmp_path / "state", like, {})
    with pytest.raises(RequestError, match=r"more is missing there"):
        checkpoint.restore(tmp_path / "state", LIKE | {"more": LIKE["n"]}, {})


def test_a_fact_that_is_not_told_is_damage(tmp_path):
    checkpoint.save(tmp_path / "state", tree_of(), {"epoch": "three"})
    for fact in ("epoch", "used"):
        with pytest.raises(DamagedError, match=f"does not tell {fact}"):
            checkpoint.restore(tmp_path / "state", LIKE, {fact: int})


def test_a_manifest_of_a_stranger_reaches_nothing_outside(tmp_path):
    state = tmp_path / "state"
    checkpoint.save(state, tree_of())
    (tmp_path / "secret").write_text("x")
    about = json.loads((state / "about.json").read_text())
    del about["sha256"]
    about["files"] = {"../../secret": "0" * 64}
    about["sha256"] = checkpoint._digest_of(about)
    (state / "about.json").write_text(json.dumps(about))
    with pytest.raises(DamagedError, match="does not tell of"):
        checkpoint.restore(state, LIKE, {})


@pytest.fixture
def kept(tmp_path):
    """Checkpoints of steps 10, 20 and 30, of which two stay, and what was noticed."""
    notices = []
    checkpoints = Checkpoints(tmp_path / "checkpoints", 0, 2, notices.append)
    for step in (10, 20, 30):
        checkpoints.save(step, tree_of(step), {"epoch": step})
    checkpoints.wait()
    return checkpoints, notices


def test_only_the_newest_stay_and_the_newest_is_read(kept):
    checkpoints, notices = kept
    assert checkpoints.steps() == [30, 20]
    tree, facts = checkpoints.restore(LIKE, {"epoch": int})
    assert (tree["a"]["kernel"][0, 0], facts["epoch"]) == (30, 30)
    assert notices == [f"going on from {checkpoints.directory / '30'}"]


@pytest.mark.parametrize("how", ["missing", "cut short", "emptied", "flipped"])
@pytest.mark.parametrize("name", ["about.json", "arrays/manifest.ocdbt"])
def test_of_a_damaged_one_the_one_before_is_read_and_a_line_says_so(kept, name, how):
    checkpoints, notices = kept
    spoil(checkpoints.directory / "30" / name, how)
    _, facts = checkpoints.restore(LIKE, {"epoch": int})
    assert facts["epoch"] == 20
    assert "checkpoints/30: " in notices[0]
    assert notices[1:] == [f"going on from {checkpoints.directory / '20'}"]
    checkpoints.save(30, tree_of(), {"epoch": 31})  # its name is free again
    assert checkpoints.restore(LIKE, {"epoch": int})[1]["epoch"] == 31


def test_if_all_are_damaged_there_is_none(kept):
    checkpoints, notices = kept
    for step in (20, 30):
        spoil(checkpoints.directory / str(step) / "about.json", "emptied")
    assert checkpoints.restore(LIKE, {}) is None
    assert len(notices) == 2


def test_what_was_half_written_is_cleared_away(tmp_path):
    (tmp_path / "40.partial" / "arrays").mkdir(parents=True)
    checkpoints = Checkpoints(tmp_path, 0, 2)
    assert not list(tmp_path.iterdir())
    assert checkpoints.restore(LIKE, {}) is None


def test_a_checkpoint_is_of_the_moment_it_was_asked_for(tmp_path):
    checkpoints = Checkpoints(tmp_path, 0, 1)
    array = np.zeros((512, 512), np.float32)
    checkpoints.save(1, {"x": array}, {})
    array += 1
    checkpoints.wait()
    assert not checkpoints.restore({"x": array}, {})[0]["x"].any()


def test_one_that_cannot_be_written_is_told_and_no_reason_to_stop(tmp_path):
    notices = []
    (tmp_path / "file").write_text("in the way")
    checkpoints = Checkpoints(tmp_path / "file" / "checkpoints", 0, 2, notices.append)
    checkpoints.save(1, tree_of(), {})
    checkpoints.wait()
    assert len(notices) == 1 and "checkpoint not written (Not a directory)" in notices[0]


def test_time_spent_is_counted_on(kept):
    checkpoints, _ = kept
    again = Checkpoints(checkpoints.directory, 0, 2)
    again.restore(LIKE, {})
    assert again.seconds() > json.loads((again.directory / "30/about.json").read_text())["facts"]["seconds"]


def test_due_after_so_many_minutes(tmp_path):
    assert Checkpoints(tmp_path, 0, 1).due()
    assert not Checkpoints(tmp_path, 10, 1).due()


def test_a_state_beyond_the_limit_of_file_sizes_is_told_as_the_system_tells_it(tmp_path):
    checkpoint.save(tmp_path / "state", {"a": np.zeros(3)})
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
    try:
        with pytest.raises(OSError, match="File too large") as raised:
            checkpoint.save(tmp_path / "state", {"a": np.random.default_rng(0).normal(size=100_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert raised.value.errno == errno.EFBIG
    assert [path.name for path in tmp_path.iterdir()] == ["state"]

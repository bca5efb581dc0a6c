"""States on disk come back to the bit, or are refused as damaged."""

import errno
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


class Poison:
    """Ends the process when it is unpickled."""

    def __reduce__(self):
        return os._exit, (77,)


DAMAGE = {
    "missing": lambda data: None,
    "cut short": lambda data: data[:-1],
    "emptied": lambda data: b"",
    "flipped": lambda data: data[:20] + bytes([data[20] ^ 4]) + data[21:],
    "pickled": lambda data: pickle.dumps(Poison()),
}


def damage(path, how):
    data = DAMAGE[how](path.read_bytes())
    path.unlink() if data is None else path.write_bytes(data)


def test_restore_returns_the_bits_that_were_saved(tmp_path, rng):
    tree = tree_of() | {"noise": rng.normal(size=(3, 4)), "half": np.ones(3, jax.numpy.bfloat16)}
    checkpoint.save(tmp_path / "state", tree_of(2.0), {})
    checkpoint.save(tmp_path / "state", tree, {"epoch": 3, "loss": 0.1 + 0.2})
    restored, facts = checkpoint.restore(tmp_path / "state", tree, {"epoch": int, "loss": float})
    jax.tree.map(np.testing.assert_array_equal, restored, tree)
    assert all(a.dtype == b.dtype for a, b in zip(*map(jax.tree.leaves, (restored, tree)), strict=True))
    assert facts == {"epoch": 3, "loss": 0.1 + 0.2}
    assert [path.name for path in tmp_path.iterdir()] == ["state"]


@pytest.mark.parametrize("how", DAMAGE)
def test_restore_refuses_damage_to_any_file(tmp_path, how):
    state = tmp_path / "state"
    checkpoint.save(state, tree_of(), {"epoch": 1})
    files = sorted(path for path in state.rglob("*") if path.is_file() and path.stat().st_size)
    assert len(files) > 3
    for path in files:
        before = path.read_bytes()
        damage(path, how)
        for read in (lambda: checkpoint.restore(state, LIKE, {"epoch": int}), lambda: checkpoint.check(state)):
            with pytest.raises(DamagedError, match=str(state)):
                read()
        path.write_bytes(before)
    for name in (".DS_Store", "._x", "desktop.ini"):
        (state / "arrays" / name).write_bytes(b"of a file manager")
    restored, _ = checkpoint.restore(state, LIKE, {"epoch": int})
    jax.tree.map(np.testing.assert_array_equal, restored, tree_of())


def test_restore_names_the_array_or_fact_that_is_missing_or_of_another_kind(tmp_path):
    checkpoint.save(tmp_path / "state", tree_of(), {"epoch": "three"})
    for fact, kind in (("epoch", int), ("used", int)):
        with pytest.raises(DamagedError, match=fact):
            checkpoint.restore(tmp_path / "state", LIKE, {fact: kind})
    wide = LIKE | {"a": {"kernel": jax.ShapeDtypeStruct((30, 41), np.float32)}}
    for like, name in ((wide, r"a\.kernel .*30, 40.*30, 41"), (LIKE | {"more": LIKE["n"]}, "more .*missing")):
        with pytest.raises(RequestError, match=name):
            checkpoint.restore(tmp_path / "state", like, {})


def test_save_beyond_the_limit_of_file_sizes_raises_the_system_error(tmp_path):
    checkpoint.save(tmp_path / "state", {"a": np.zeros(3)}, {})
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
    try:
        with pytest.raises(OSError, match=os.strerror(errno.EFBIG)) as raised:
            checkpoint.save(tmp_path / "state", {"a": np.random.default_rng(0).normal(size=100_000)}, {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert raised.value.errno == errno.EFBIG
    assert [path.name for path in tmp_path.iterdir()] == ["state"]
    checkpoint.restore(tmp_path / "state", {"a": np.zeros(3)}, {})


@pytest.fixture
def kept(tmp_path):
    """Checkpoints after steps 10, 20 and 30, the newest two kept, and the notices."""
    notices = []
    checkpoints = Checkpoints(tmp_path / "checkpoints", 0, 2, notices.append)
    for step in (10, 20, 30):
        checkpoints.save(step, tree_of(step), {"epoch": step})
    checkpoints.wait()
    return checkpoints, notices


def test_checkpoints_keeps_and_restores_the_newest(kept):
    checkpoints, notices = kept
    assert checkpoints.steps() == [30, 20]
    assert checkpoints.due() and not Checkpoints(checkpoints.directory, 10, 1).due()  # minutes
    tree, facts = checkpoints.restore(LIKE, {"epoch": int})
    assert (tree["a"]["kernel"][0, 0], facts["epoch"]) == (30, 30)
    again = Checkpoints(checkpoints.directory, 0, 2, notices.append)
    _, facts = again.restore(LIKE, {})
    assert again.seconds() > facts["seconds"] > 0
    assert len(notices) == 2 and all(str(checkpoints.directory / "30") in notice for notice in notices)
    checkpoints.remove()
    assert not checkpoints.directory.exists()


@pytest.mark.parametrize("how", ["missing", "cut short", "emptied", "flipped"])
@pytest.mark.parametrize("name", ["about.json", "manifest.ocdbt"])
def test_checkpoints_fall_back_to_the_previous_one_if_the_newest_is_damaged(kept, name, how):
    checkpoints, notices = kept
    damage(next((checkpoints.directory / "30").rglob(name)), how)
    assert checkpoints.restore(LIKE, {"epoch": int})[1]["epoch"] == 20
    assert len(notices) == 2
    assert str(checkpoints.directory / "30") in notices[0] and str(checkpoints.directory / "20") in notices[1]
    checkpoints.save(30, tree_of(), {"epoch": 31})  # its name is free again
    assert checkpoints.restore(LIKE, {"epoch": int})[1]["epoch"] == 31


def test_checkpoints_restore_nothing_if_all_are_damaged_or_unfinished(kept):
    checkpoints, notices = kept
    for step in (20, 30):
        damage(checkpoints.directory / str(step) / "about.json", "emptied")
    (checkpoints.directory / "40.partial" / "arrays").mkdir(parents=True)
    again = Checkpoints(checkpoints.directory, 0, 2, notices.append)
    assert again.restore(LIKE, {}) is None
    assert len(notices) == 2
    assert not list(again.directory.iterdir())


def test_checkpoints_notice_a_failure_to_write_and_go_on(tmp_path):
    notices = []
    (tmp_path / "file").touch()
    checkpoints = Checkpoints(tmp_path / "file" / "checkpoints", 0, 2, notices.append)
    checkpoints.save(1, tree_of(), {})
    checkpoints.wait()
    assert len(notices) == 1
    assert str(checkpoints.directory) in notices[0] and os.strerror(errno.ENOTDIR) in notices[0]

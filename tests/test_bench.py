"""The benchmark runs and its arithmetic is right; how fast is for `itae bench` to say."""

import json

import jax
import numpy as np
import pytest

from itae_jax.bench import cases as contenders
from itae_jax.bench import reading as bench_data
from itae_jax.bench import report as bench_report
from itae_jax.bench import timing as bench


def test_operations_are_those_of_the_convolutions_and_little_more():
    # Table 10, side and channels in and out of each convolution, in units of the width 8.
    maps = [(32, 1 / 8, 1), (32, 1, 1), (16, 1, 2), (16, 2, 2), (8, 2, 4), (8, 4, 4), (4, 4, 8), (4, 8, 8)]
    maps += [(2, 8, 8), (2, 8, 8), (4, 16, 4), (4, 4, 4), (8, 8, 2), (8, 2, 2), (16, 4, 1), (16, 1, 1)]
    maps += [(32, 2, 1), (32, 1, 1), (32, 1, 3 / 8)]
    inside = sum(
        (3 * side - 2) ** 2 * c * 8 * f * 8 for side, c, f in maps
    )  # zeros of the padding are not counted
    assert 1 < bench.operations("scoring", 8) / (2 * 4 * inside) < 1.1
    assert 2.5 < bench.operations("training", 8) / (2 * inside) < 3.3


@pytest.mark.filterwarnings("ignore:`torch.jit.script_method`:DeprecationWarning")  # torch.compile's own
def test_pytorch_eager_contenders_run():
    pytest.importorskip("torch", reason="PyTorch is not installed")
    made = contenders.torch_training(2, "float32"), contenders.torch_scoring(8, 2, "float32")
    for rivals in made:
        for contender in rivals:
            if "compile" not in contender.name:  # takes a minute and a C++ compiler
                contender.call(1)
                assert contender.batch == (32 if rivals is made[0] else 8)


@pytest.mark.parametrize(
    ("backend", "has_cuda", "device"),
    [
        ("cpu", False, "cpu"),
        ("cpu", True, "cpu"),
        ("gpu", True, "cuda"),
        ("gpu", False, None),
        ("tpu", True, None),
    ],
)
def test_pytorch_is_compared_on_the_same_kind_of_device_alone(backend, has_cuda, device, monkeypatch):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: has_cuda)
    monkeypatch.setattr(contenders.jax, "default_backend", lambda: backend)
    assert contenders.torch_device() == device


def test_reading_is_timed_beside_bare_decoding():
    result = bench_data.measure(40, 2)
    assert len(result["passes"]) == 2
    assert all(row["resident_mib"] > 10 for row in result["passes"])
    assert 0 < bench_data.ratio(result) < 100
    assert "times as fast as bare decoding" in bench_data.table(result)


def test_ratio_is_to_the_best_of_pytorch():
    def timing(contender, seconds):
        return {"task": "training", "width": 16, "contender": contender, "seconds": seconds}

    times = [timing("itae_jax", 0.3), timing("torch eager", 0.4), timing("torch compile", 0.2)]
    assert bench_report.ratios({"timings": times}) == {("training", 16): pytest.approx(1.5)}


def test_our_contenders_do_what_is_timed(monkeypatch, tmp_path, tiny_network):
    monkeypatch.setattr(contenders, "torch_device", lambda: None)
    monkeypatch.setattr(bench, "_SECONDS_PER_TURN", 0.0)
    said = []
    monkeypatch.setitem(bench._LARGE, "cpu", 64)
    result = bench.measure([2], rounds=2, say=said.append, models_at_once=[3], scored_at_once=8)
    assert said[0].startswith("no comparison: PyTorch is not installed")
    assert [(timing["task"], timing["contender"]) for timing in result["timings"]] == [
        ("training", "itae_jax"),
        ("training", "itae_jax, 3 models"),
        ("scoring", "itae_jax"),
    ]
    for timing in result["timings"]:
        assert len(timing["rounds"]) == 2
        assert timing["images_per_second"] == pytest.approx(timing["batch"] / timing["seconds"])
    assert bench_report.ratios(result) == {}
    assert result["settings"]["rounds"] == 2
    assert result["settings"]["models_at_once"] == [3]
    assert json.loads(json.dumps(result)) == result
    assert "training, width 2: " in bench_report.table(result)
    assert all(timing["memory_mib"] > 0 for timing in result["timings"])
    assert [timing["batch"] for timing in result["timings"]] == [32, 96, 8]
    ours = [timing for timing in result["timings"] if timing["contender"] == "itae_jax"]
    for floor, timing in zip(result["floors"], ours, strict=True):
        assert floor["seconds"] == pytest.approx(floor["operations"] / floor["peak"])
        share = bench_report.shares(result)[timing["task"], 2]
        assert share == pytest.approx(floor["seconds"] / timing["seconds"])
    bench_report.plot(result, tmp_path / "speed.png")
    assert (tmp_path / "speed.png").read_bytes().startswith(b"\x89PNG")


def test_networks_that_train_at_once_are_trained_each_as_alone(tiny_network, rng):
    trainer = contenders.trainer(2, "float32")
    run = contenders._mapped_over_models(trainer)
    images = rng.integers(0, 256, (3, 1, 2, 32, 32, 32, 3), np.uint8)  # steps, K, models, batch
    rates = np.full(1, 0.1, np.float32)
    together = contenders._stacked([trainer.initial_state((0, m)) for m in range(2)], trainer.devices)
    losses = []
    for images_KxMxB in images:
        together, losses_MxK = run(together, rates, images_KxMxB, axis=2)
        losses.append(losses_MxK)
    for m in range(2):
        alone = trainer.initial_state((0, m))
        for images_KxMxB, losses_MxK in zip(images, losses, strict=True):
            alone, loss_K = trainer.run_steps(alone, rates, images_KxMxB[:, m])
            np.testing.assert_allclose(losses_MxK[m], loss_K, rtol=1e-5)
        for kept in ("params", "batch_stats"):
            pairs = zip(*(jax.tree.leaves(getattr(s, kept)) for s in (together, alone)), strict=True)
            for ours, expected in pairs:
                np.testing.assert_allclose(ours[m], expected, rtol=1e-5, atol=1e-6)

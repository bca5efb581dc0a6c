"""The benchmark's cases, its contenders and its arithmetic; never how fast anything is."""

import json

import numpy as np
import pytest
from conftest import training_tiny_networks

from itae_jax.bench import cases, reading, report, timing
from itae_jax.data import as_images
from itae_jax.errors import RequestError


@pytest.fixture
def tiny_network():
    """Of one test alone: others here count the operations of real networks."""
    with training_tiny_networks():
        yield


@pytest.fixture
def short_turns(monkeypatch):
    """Makes turns of one batch, and the matrix product small."""
    monkeypatch.setattr(timing, "SECONDS_PER_TURN", 0.0)
    monkeypatch.setitem(timing.LARGE_MATRIX, "cpu", 64)


@pytest.mark.parametrize(
    ("settings", "names"),
    [
        ([], ["width=16", "width=32", "width=64"]),
        (["method.width=8", "method.transform=rotate"], ["width=8"]),
        (["method.name=vae", "method.channels=4"], ["vae"]),
    ],
)
def test_cases_are_those_of_the_method_unless_settings_fix_them(settings, names):
    found = cases.experiments(settings)
    assert list(found) == names
    for name, case in found.items():
        assert name == case.method.NAME or name == f"width={case.method.width}"
        assert case.train.batch_size == 32


@pytest.mark.parametrize(
    "setting", ["train.epochs=1", "data.name=mnist", "seed=1", "method.wide=8", "method.name=knn"]
)
def test_cases_refuse_settings_that_mean_nothing_to_them(setting):
    with pytest.raises(RequestError, match=setting.partition("=")[0]):
        cases.experiments([setting])


def test_operations_of_the_unet_are_those_of_its_convolutions_and_little_more():
    # Table 10: side of the map, channels in and out of each convolution, in units of the width.
    maps = [(32, 1 / 8, 1), (32, 1, 1), (16, 1, 2), (16, 2, 2), (8, 2, 4), (8, 4, 4), (4, 4, 8), (4, 8, 8)]
    maps += [(2, 8, 8), (2, 8, 8), (4, 16, 4), (4, 4, 4), (8, 8, 2), (8, 2, 2), (16, 4, 1), (16, 1, 1)]
    maps += [(32, 2, 1), (32, 1, 1), (32, 1, 3 / 8)]
    multiplied = sum((3 * side - 2) ** 2 * c * 8 * f * 8 for side, c, f in maps)  # without the padding's zeros
    (case,) = cases.experiments(["method.width=8"]).values()
    assert 1 < cases.operations("scoring", case, 2) / (2 * 2 * 4 * multiplied) < 1.1
    assert 2.5 < cases.operations("training", case, 32) / (32 * 2 * multiplied) < 3.3


def test_operations_of_geotrans_are_those_of_all_its_transforms():
    (case,) = cases.experiments(["method.name=geotrans", "method.widen=1"]).values()
    maps = [(32, 3, 16)] + 2 * [(32, 16, 16)] + [(16, 16, 32), (16, 32, 32), (8, 32, 64), (8, 64, 64)]
    multiplied = sum(9 * side**2 * c * f for side, c, f in maps)  # the 3x3 convolutions of depth 10
    assert 0.9 < cases.operations("scoring", case, 2) / (2 * 2 * 72 * multiplied) < 1.3


def test_contenders_of_pytorch_run(monkeypatch):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    monkeypatch.setattr(torch, "compile", lambda network, **_: network)  # which takes a minute
    (case,) = cases.experiments(["method.width=2"]).values()
    assert cases.has_torch_reference(case.method)
    (other,) = cases.experiments(["method.network=resnet34_unet", "method.width=2"]).values()
    assert not cases.has_torch_reference(other.method)
    for rivals, batch in ((cases.torch_training(case), 32), (cases.torch_scoring(case, 8), 8)):
        assert [rival.batch for rival in rivals] == [batch] * 3
        for rival in rivals:
            rival.call(1)


@pytest.mark.parametrize(
    ("backend", "has_cuda", "device"),
    [("cpu", True, "cpu"), ("gpu", True, "cuda"), ("gpu", False, None), ("tpu", True, None)],
)
def test_torch_device_is_of_the_kind_that_jax_computes_on(backend, has_cuda, device, monkeypatch):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: has_cuda)
    monkeypatch.setattr(cases.jax, "default_backend", lambda: backend)
    assert cases.torch_device() == device


def test_measure_times_training_and_scoring_of_any_method(short_turns, monkeypatch, tmp_path):
    settings = ["method.name=vae", "method.channels=2"]
    monkeypatch.setattr(cases, "torch_device", lambda: None)
    lines = []
    result = timing.measure([*settings, "compute.devices=1"], rounds=2, scored_at_once=8, say=lines.append)
    assert "PyTorch" in lines[0]
    timings = result["timings"]
    asked = [(one["kind"], one["contender"], one["batch"]) for one in timings]
    assert asked == [("training", "itae_jax", 32), ("scoring", "itae_jax", 8)]
    for one, floor in zip(timings, result["floors"], strict=True):
        assert len(one["rounds"]) == 2 and one["memory_mib"] > 0
        assert one["images_per_second"] == pytest.approx(one["batch"] / one["seconds"])
        assert floor["seconds"] == pytest.approx(floor["operations"] / floor["peak"])
        share = report.shares(result)[one["kind"], one["case"]]
        assert share == pytest.approx(floor["seconds"] / one["seconds"])
    assert report.ratios(result) == {}
    assert all(one["case"] in report.table(result) for one in timings)
    report.write(result, tmp_path / "speed.json")
    assert json.loads((tmp_path / "speed.json").read_text()) == result
    report.draw(result).savefig(tmp_path / "speed.png")
    assert (tmp_path / "speed.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("side", [16, 64])
def test_as_many_images_are_scored_at_a_time_as_are_asked_for(tiny_network, side):
    (case,) = cases.experiments(["method.width=2", f"data.image_size={side}"]).values()
    learner = cases.learner(case, 48)
    variables = learner.trainer.initial_state((0,)).method.variables
    images = as_images(np.zeros((50, side, side, 3), np.uint8))
    assert [len(one.positions) for one in learner.measure(variables, images)] == [48, 2]


def test_measure_refuses_a_batch_that_the_devices_cannot_share(tiny_network):
    with pytest.raises(RequestError, match=r"--scored-at-once 7\b"):
        timing.measure(["method.width=2"], scored_at_once=7)


def test_ratios_are_to_the_best_of_pytorch():
    seconds = {"itae_jax": 0.3, "torch eager": 0.4, "torch compile": 0.2}
    case = {"kind": "training", "case": "small"}
    timings = [case | {"contender": name, "seconds": value} for name, value in seconds.items()]
    assert report.ratios({"timings": timings}) == {("training", "small"): pytest.approx(1.5)}


def test_reading_is_timed_beside_bare_decoding(tiny_network):
    result = reading.measure(40, 2)
    assert len(result["passes"]) == 2
    ratios = [row["pipeline"] / row["bare"] for row in result["passes"]]
    assert reading.ratio(result) == pytest.approx(np.mean(ratios))
    at_once = [row["both"] / min(row["read"], row["score"]) for row in result["scoring"]]
    assert reading.overlap(result) == pytest.approx(np.mean(at_once))
    assert all(speed > 0 for row in result["scoring"] for speed in row.values())
    table = reading.table(result)
    assert f"{reading.ratio(result):.2f}" in table and f"{reading.overlap(result):.2f}" in table

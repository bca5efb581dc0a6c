"""The benchmark runs and its arithmetic is right; how fast is for `itae bench` to say."""

import json

import pytest

from itae_jax import bench, bench_data


def test_our_contenders_do_what_is_timed(monkeypatch):
    monkeypatch.setattr(bench.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(bench, "_SECONDS_PER_TURN", 0.0)
    said = []
    result = bench.measure([2], 2, said.append)
    assert said[0].startswith("PyTorch is not installed: no comparison")
    assert [(timing["task"], timing["contender"]) for timing in result["timings"]] == [
        ("training", "itae_jax"),
        ("scoring", "itae_jax"),
    ]
    for timing in result["timings"]:
        assert len(timing["rounds"]) == 2
        assert timing["images_per_second"] == pytest.approx(32 / timing["seconds"])
    assert bench.ratios(result) == {}
    assert json.loads(json.dumps(result)) == result
    assert "training" in bench.table(result)


@pytest.mark.filterwarnings("ignore:`torch.jit.script_method`:DeprecationWarning")  # torch.compile's own
def test_pytorch_eager_contenders_run():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    for make in (bench._torch_training, bench._torch_scoring):
        for contender in make(2):
            if "compile" not in contender.name:  # takes a minute and a C++ compiler
                contender.call(1)
    assert torch.get_num_threads() >= 1


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
    assert bench.ratios({"timings": times}) == {("training", 16): pytest.approx(1.5)}

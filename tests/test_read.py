"""Run directories read back and joined; pages written from them; damage is refused in one line."""

import json
from pathlib import Path

import numpy as np
import pytest
from test_report import make_result

from itae_jax import experiment, files
from itae_jax.errors import RequestError
from itae_jax.report import columns, comparisons, run_page
from itae_jax.runs import read, results
from itae_jax.runs.read import read_all


def write_run(directory, found, *settings, kept=("inputs", "outputs", "maps"), masked=(1,)):
    """A run directory; of each result the files of its training, whose four images are ok, ok, odd, odd.

    Args:
      kept: what its illustrations hold.
      masked: the classes whose defects have masks.
    """
    directory.mkdir(parents=True)
    one = experiment.Experiment(name="sweep")
    (directory / "config.json").write_text(
        experiment.to_json(experiment.override(one, ["data.name=cifar10", *settings]))
    )
    results.write(directory / "results.csv", found)
    for result in found:
        job = directory / f"class_{result.normal_class}" / f"seed_{result.seed}"
        job.mkdir(parents=True, exist_ok=True)
        rows = [{"id": f"a/{i}", "label": "ok" if i < 2 else "odd", "score": i} for i in range(4)]
        files.write_csv(job / "scores.csv", rows)
        images, masks = np.zeros((2, 8, 8, 1), np.uint8), np.zeros((2, 8, 8), bool)
        masks[1, 2:4, 2:4] = result.normal_class in masked
        arrays = {"inputs": images[None], "outputs": images[None], "maps": np.ones((2, 8, 8))}
        arrays = {name: arrays[name] for name in kept}
        labels = {"labels": np.array(["ok", "odd"]), "is_anomaly": np.array([False, True])}
        np.savez(job / "illustrations.npz", originals=images, masks=masks, **labels, **arrays)
    return directory


def whole(index=0, seed=0, **fields):
    """A result that agrees with the files that `write_run` writes."""
    return make_result(index, seed, 1.0, **{"num_test": 4, "num_anomalous": 2, "best_f1": 0.5} | fields)


def test_parts_of_one_sweep_are_joined(tmp_path):
    first = write_run(tmp_path / "a", [make_result(1, 0, 0.9), make_result(0, 0, 0.8)], "data.root=/here")
    second = [make_result(0, 1, 0.7), make_result(1, 0, 0.9)]
    second = write_run(tmp_path / "b", second, "data.root=/there", "classes=0,1", "compute.devices=1")
    (run,) = read_all([first, second])
    assert [result.job for result in run.results] == [(0, 0), (0, 1), (1, 0)]
    assert run.duplicates == 1
    assert run.job_directory(run.results[1]) == second / "class_0" / "seed_1"
    assert run.job_directory(run.results[2]) == first / "class_1" / "seed_0"


@pytest.mark.parametrize("measure", ["auroc", "pixel_auroc"])
def test_parts_that_contradict_each_other_are_refused(tmp_path, measure):
    fields = {"auroc": 0.8, "pixel_auroc": 0.8}
    first, second = (
        write_run(tmp_path / str(value), [make_result(0, 0, **fields | {measure: value})])
        for value in (0.8, 0.81)
    )
    with pytest.raises(RequestError, match=rf"class class 0, seed 0 has {measure}=0\.81, but 0\.8 in .*0\.8"):
        read_all([first, second])


def test_other_configs_data_and_classes_are_other_results(tmp_path):
    one = write_run(tmp_path / "a", [make_result()])
    narrow = write_run(tmp_path / "b", [make_result()], "method.width=7")
    brief = write_run(tmp_path / "c", [make_result(epochs=7)], "train.epochs=7")
    other = write_run(tmp_path / "d", [make_result(data_source="jpg")])
    part = write_run(tmp_path / "e", [make_result(coverage="partial")])
    cow = write_run(tmp_path / "f", [make_result(0, 1, normal_class_name="cow")])
    more = write_run(tmp_path / "g", [make_result(0, 1), make_result(1, 0)])
    runs = read_all([one, narrow, brief, other, part, cow, more])
    assert [len(run.results) for run in runs] == [3, 1, 1, 1, 1, 1]
    assert runs[-1].results[0].normal_class_name == "cow"


def test_a_directory_named_twice_counts_once(tmp_path, monkeypatch):
    directory = write_run(tmp_path / "a", [make_result()])
    (tmp_path / "link").symlink_to(directory)
    monkeypatch.chdir(tmp_path)
    assert read_all([Path("a"), directory, tmp_path / "link"])[0].duplicates == 0


def test_a_training_that_failed_in_one_place_counts_where_it_succeeded(tmp_path):
    failed = make_result(1, 0, None, status="failed", note="the loss is nan")
    first = write_run(tmp_path / "a", [make_result(), failed])
    second = write_run(tmp_path / "b", [make_result(1, 0, 0.6)])
    for order in ([first, second], [second, first]):
        (run,) = read_all(order)
        assert [result.auroc for result in run.results] == [0.9, 0.6]
        assert run.job_directory(run.results[1]) == second / "class_1" / "seed_0"
        assert run.duplicates == 0 and not run.notes


def test_results_of_another_config_or_none_are_refused(tmp_path):
    directory = write_run(tmp_path / "a", [make_result()])
    path = directory / "results.csv"
    text = path.read_text()
    for content, message in (
        (text.replace(",500,", ",400,"), r"has epochs=400 in class 0, seed 0, but config\.json 500"),
        (text.replace(",itae,", ",vae,"), r"has method='vae' in class 0, seed 0, but config\.json 'itae'"),
        (text.splitlines()[0] + "\n", "no row yet"),
        (text[:-1], "is damaged"),
    ):
        path.write_text(content)
        with pytest.raises(RequestError, match=rf"{directory}.*{message}"):
            read_all([directory])
    path.unlink()
    with pytest.raises(RequestError, match=r"no results\.csv there"):
        read_all([directory])


def test_damaged_scores_are_refused(tmp_path):
    result = make_result(0, 0, 0.8, num_test=2)
    run = read.read(write_run(tmp_path / "a", [result]))
    path = run.job_directory(result) / "scores.csv"
    cases = {"1": "1 of 2 images", "1 nan": "not a finite", "1 1e308": "not a finite", "1 2": "gives auroc=1,"}
    for scores, message in cases.items():
        labelled = zip(("ok", "bad"), scores.split(), strict=False)
        files.write_csv(path, [{"id": "a", "label": label, "score": score} for label, score in labelled])
        with pytest.raises(RequestError, match=message):
            read.read_scores(run, result)


def test_scores_of_video_are_those_within_each_video(tmp_path):
    frames = [("a/0", "ok", 1.0), ("a/1", "odd", 3.0), ("b/0", "ok", 5.0), ("b/1", "ok", 4.0)]
    for num_videos, auroc, expected in ((2, 2 / 3 + 0.5 / 3, [0, 1, 1, 0]), (None, 1 / 3, [1, 3, 5, 4])):
        result = make_result(0, 0, auroc, num_test=4, num_videos=num_videos)
        run = read.read(write_run(tmp_path / str(num_videos), [result]))
        rows = [dict(zip(("id", "label", "score"), frame, strict=True)) for frame in frames]
        files.write_csv(run.job_directory(result) / "scores.csv", rows)
        is_anomaly, scores = read.read_scores(run, result)
        assert (is_anomaly.tolist(), scores.tolist()) == ([False, True, False, False], expected)


def test_damaged_illustrations_are_refused_whatever_byte_is_broken(tmp_path):
    result = make_result()
    run = read.read(write_run(tmp_path / "a", [result]))
    path = run.job_directory(result) / "illustrations.npz"
    saved = read.read_illustrations(run, result)
    np.savez_compressed(path, **saved)
    content, refused = path.read_bytes(), 0
    for place in range(0, len(content), 3):
        path.write_bytes(content[:place] + bytes([content[place] ^ 0x22]) + content[place + 1 :])
        try:
            read.read_illustrations(run, result)
        except RequestError:
            refused += 1
    assert refused > len(content) / 6  # the rest are bytes of dates and the like
    two_channels = {name: np.repeat(saved[name], 2, -1) for name in ("originals", "inputs", "outputs")}
    for changed, message in (
        ({"labels": np.array(["ok"])}, "not of the same images"),
        ({"maps": np.zeros((2, 8, 9))}, "not of the same images"),
        ({"inputs": saved["originals"]}, "not of the same images"),
        ({"labels": np.arange(2.0)}, "of other types"),
        ({"originals": saved["originals"] * 1.0}, "of other types"),
        (two_channels, "others than grey"),
    ):
        np.savez(path, **{**saved, **changed})
        with pytest.raises(RequestError, match=message):
            read.read_illustrations(run, result)


def test_curves_leave_out_damaged_and_foreign_lines(tmp_path):
    directory = write_run(tmp_path / "a", [make_result()])
    lines = [
        '{"normal_class": 0, "seed": 0, "epoch": 1, "auroc": NaN}',
        '{"normal_class": 0, "seed": 0, "epoch": 3, "auroc": 5.0}',
        '{"normal_class": 0, "seed": 0, "epoch": 2, "loss": 0.1, "auroc": 0.7}',
        '{"normal_class": 1, "seed": 0, "epoch": 2, "loss": 0.1, "auroc": 0.7}',
        '{"normal_class": 0, "seed": 0, "epo',
    ]
    (directory / "metrics.jsonl").write_text("\n".join(lines))
    assert read.training_curves(read.read(directory)) == {(0, 0): {2: 0.7}}


@pytest.mark.parametrize("kept", [("inputs", "outputs", "maps"), ()])
def test_report_shows_what_a_method_has(tmp_path, kept):
    of_vae = [whole(index, method="vae", epochs=100) for index in (0, 1)]
    vae = write_run(tmp_path / "b", of_vae, "method.name=vae", kept=kept)
    itae = write_run(tmp_path / "a", [whole(), whole(0, 1), whole(1)])
    path = run_page.write(read_all([itae, vae]), tmp_path)
    assert path == tmp_path / "report.html"
    page = path.read_text()
    assert page.count("<h2>ROC</h2>") == page.count("<h2>Scores</h2>") == 2
    assert page.count('alt="Originals, inputs and outputs') == (4 if kept else 2)
    assert [link for link in page.split('src="')[1:] if not link.startswith("data:image/png;base64,")] == []
    assert "| normal class | ITAE | VAE |" in (tmp_path / "report.md").read_text()
    assert len((tmp_path / "report.csv").read_text().splitlines()) > 10
    names = {f"{kind}_cifar10.{end}" for kind in ("bars", "anomaly_maps", "roc") for end in ("png", "pdf")}
    names |= {f"sweep_{title}_{kind}.png" for title in ("ITAE", "VAE") for kind in ("histograms", "roc")}
    restored = [f"sweep_{title}_restorations_class_{k}_seed_0.png" for title in ("ITAE", "VAE") for k in (0, 1)]
    assert {file.name for file in (tmp_path / "figures").iterdir()} == names | set(
        restored[: None if kept else 2]
    )


def test_anomaly_maps_are_of_the_first_class_with_masks(tmp_path):
    directory = write_run(tmp_path / "a", [whole(0, 1), whole(1, 1), whole(1, 2)])
    page = run_page.write(read_all([directory]), directory).read_text()
    assert "anomaly maps: Normal class class 1, seed 1. " in page


def test_curves_are_of_the_score_that_was_followed(tmp_path):
    result = whole(further_aurocs={"l1": 1.0, "l2": 0.7})
    directory = write_run(tmp_path / "a", [result], "paper_table=table5", "evaluate.every_epochs=1")
    entry = {"normal_class": 0, "seed": 0, "epoch": 1, "auroc": 0.8}
    (directory / "metrics.jsonl").write_text(json.dumps(entry) + "\n")
    (of_dataset,) = columns.by_dataset(read_all([directory]))
    figure, _ = comparisons.curves_over_epochs(of_dataset)
    assert [line.get_ydata().tolist() for line in figure.axes[0].lines] == [[80.0]]  # by l1 alone


@pytest.mark.parametrize("name", ["d" * 250, "日本語", "a b:c", "caf\udce9 $x^$", "<script>x</script>"])
def test_report_is_written_whatever_data_set_and_classes_are_called(tmp_path, name):
    of_folder = {"dataset": name, "coverage": "own"}
    found = [whole(index, normal_class_name=f"{name} {index}", **of_folder) for index in range(2)]
    directory = write_run(tmp_path / "a", found, "data.name=folder")
    page = run_page.write(read_all([directory]), directory).read_text()
    assert len(page) > 10_000 and "<script>x" not in page


def test_report_of_failures_alone_is_written(tmp_path):
    directory = write_run(tmp_path / "a", [make_result(0, 0, None, status="failed", note="the loss is nan")])
    assert "the loss is nan" in run_page.write(read_all([directory]), directory).read_text()

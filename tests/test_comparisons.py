"""What the pictures show is what they were given."""

import json

import numpy as np
import pytest
from test_read import whole, write_run
from test_report import make_run

from itae_jax.report import columns, comparisons, figures
from itae_jax.runs.read import read_all

PLAIN = "method.transform=identity"


def drawn(picture):
    figure, caption = picture
    figure.canvas.draw()
    return figure, caption


def test_bars_have_the_heights_of_the_numbers_and_marks_at_the_papers():
    runs = [
        make_run(((3, 0, 0.9), (5, 0, 0.8)), table="table1"),
        make_run(((3, 0, 0.6), (3, 1, 0.7)), PLAIN, table="table1"),
    ]
    figure, caption = drawn(comparisons.bars_by_class(columns.by_dataset(runs)[0]))
    (ax,) = figure.axes
    bars = [[bar.get_height() for bar in group] for group in ax.containers if hasattr(group, "patches")]
    assert bars == [[pytest.approx(90), pytest.approx(80)], [pytest.approx(65)]]
    marks = [line.get_xydata()[0] for line in ax.lines if line.get_marker() == "D"]
    assert [height for _, height in marks] == [77.4, 84.5, 62.3]  # no averages: they differ in their classes
    first = ax.containers[0][0]
    assert marks[0][0] == pytest.approx(first.get_x() + first.get_width() / 2)
    assert [label.get_text() for label in ax.get_xticklabels()] == ["class 3", "class 5"]
    (segment,) = ax.collections[0].get_segments()
    np.testing.assert_allclose(segment[:, 1], [65 - np.std([60, 70], ddof=1), 65 + np.std([60, 70], ddof=1)])
    assert "diamonds" in caption and "whiskers" in caption


def test_bars_show_averages_that_compare_and_nothing_that_a_table_says():
    runs = [make_run(((0, 0, 0.9), (1, 0, 0.8)), *settings) for settings in ([], [PLAIN])]
    figure, caption = drawn(comparisons.bars_by_class(columns.by_dataset(runs)[0]))
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == ["class 0", "class 1", "average"]
    assert "diamonds" not in caption and "whiskers" not in caption
    assert comparisons.bars_by_class(columns.by_dataset([make_run()])[0]) is None


def test_a_method_has_one_colour_wherever_its_column_stands():
    first, second = map(comparisons.colours, (["AE (reduced)", "AE+S", "ITAE, 5 epochs"], ["ITAE"]))
    assert first[2] == second[0]
    assert comparisons.colours(["AE+G", "AE"])[1] == first[0]
    many = comparisons.colours(["ITAE", "ITAE (float32)", "x", "AE", "", "AE+G", "AE+R"])
    assert len(set(many)) == len(many)


@pytest.mark.parametrize("count", [1, 3, 14])
def test_legends_lie_within_their_picture(tmp_path, count):
    for number in range(count):
        variant = f"an_experiment_of_a_long_name_{number}"
        directory = write_run(tmp_path / variant, [whole(1, variant=variant)], f"variant={variant}")
        entry = {"normal_class": 1, "seed": 0, "epoch": 5, "auroc": 0.8}
        (directory / "metrics.jsonl").write_text(json.dumps(entry) + "\n")
    (of_dataset,) = columns.by_dataset(read_all(sorted(tmp_path.iterdir())))
    pictures = [comparisons.curves_over_epochs(of_dataset), comparisons.bars_by_class(of_dataset)]
    for picture in pictures[: 1 if count == 1 else 2]:
        figure, _ = drawn(picture)
        box = figure.legends[0].get_window_extent()
        assert box.x0 >= 0 and box.x1 <= figure.bbox.width


def test_curves_are_means_over_seeds_in_bands_of_one_sd(tmp_path):
    aurocs = {(0, 0): [0.80, 0.90], (0, 1): [0.84, 0.90], (1, 0): [0.5]}
    directory = write_run(tmp_path / "a", [whole(*job) for job in aurocs], "evaluate.every_epochs=5")
    lines = [
        json.dumps({"normal_class": job[0], "seed": job[1], "epoch": 5 * (index + 1), "auroc": value})
        for job, values in aurocs.items()
        for index, value in enumerate(values)
    ]
    (directory / "metrics.jsonl").write_text("\n".join(lines))
    plain = write_run(tmp_path / "b", [whole()], "evaluate.every_epochs=5", PLAIN)
    (plain / "metrics.jsonl").write_text(lines[0].replace("0.8", "0.5"))
    (of_dataset,) = columns.by_dataset(read_all([directory, plain]))
    figure, caption = drawn(comparisons.curves_over_epochs(of_dataset))
    first, second, *_ = figure.axes
    assert [line.get_xydata().tolist() for line in first.lines] == [
        [[5, pytest.approx(82)], [10, pytest.approx(90)]],
        [[5, pytest.approx(50)]],
    ]
    (band,) = first.collections
    heights = band.get_paths()[0].vertices[:, 1]
    assert heights.min() == pytest.approx(82 - np.std([80, 84], ddof=1))
    assert heights.max() == pytest.approx(90)
    assert len(second.lines) == 1 and "bands" in caption


def test_roc_curves_of_methods_lie_over_each_other_and_have_their_area(tmp_path):
    written = [(tmp_path / name, [whole(1), whole(2)], *more) for name, *more in (("a",), ("b", PLAIN))]
    runs = read_all([write_run(*arguments) for arguments in written])
    (of_dataset,) = columns.by_dataset(runs)
    is_anomaly, scores = np.array([0, 0, 1, 1], bool), {0: np.array([1, 3, 2, 4]), 1: np.arange(4)}
    files = {
        id(run): [(result, (is_anomaly, scores[number]), {}) for result in run.results]
        for number, run in enumerate(runs)
    }
    figure, _ = drawn(comparisons.roc_curves(of_dataset, files))
    assert [ax.get_title() for ax in figure.axes] == ["class 1", "class 2"]
    for ax in figure.axes:
        of_methods = [line for line in ax.lines if line.get_label() in {"ITAE", "AE"}]
        areas = [np.trapezoid(*reversed(line.get_data())) for line in of_methods]
        assert areas == [pytest.approx(0.75), pytest.approx(1)]
    assert comparisons.roc_curves(of_dataset[:1], files) is None


def test_bubbles_lie_at_speed_and_auroc_and_grow_with_memory():
    run = make_run(((0, 0, 0.86),), table="figure3", score_memory_mib=713 / 2 / 1.048576)
    figure, _ = drawn(comparisons.bubbles(columns.by_dataset([run])[0]))
    places = [tuple(points.get_offsets()[0]) for points in figure.axes[0].collections]
    assert places == [(300, pytest.approx(86)), (35, 86), (270, 86.6)]
    sizes = [points.get_sizes()[0] for points in figure.axes[0].collections]
    assert sizes[2] == pytest.approx(2 * sizes[0])


def test_anomaly_maps_are_bright_where_the_error_is_and_outline_the_defect(rng):
    masks = np.zeros((2, 16, 16), bool)
    masks[1, 4:8, :4] = True  # at the edge
    saved = {"originals": rng.integers(0, 256, (2, 16, 16, 1), np.uint8), "masks": masks}
    saved |= {"labels": np.array(["good", "dent"]), "is_anomaly": np.array([False, True])}
    maps = np.where(masks, 9.0, 0.5)
    figure, _ = drawn((figures.anomaly_maps(saved, [("AE", np.full_like(maps, 0.5)), ("ITAE", maps)]), ""))
    (ax,) = figure.axes
    assert [label.get_text() for label in ax.get_xticklabels()] == ["image", "AE", "ITAE"]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["good", "dent"]
    rows = np.array_split(ax.images[0].get_array().astype(int), 2)
    good, (image, _, seen) = (np.array_split(row, 3, axis=1) for row in rows)
    assert all(np.ptp(part, axis=-1).max() == 0 for part in good)  # normal everywhere, and no mask
    pixel = seen.shape[0] // 16
    inside = seen[5 * pixel : 7 * pixel, pixel : 3 * pixel]
    assert (inside[..., 0] > inside[..., 2] + 50).all()
    is_line = image[..., 2] - image[..., 0] > 200
    assert is_line[:, : 6 * pixel].sum() == is_line.sum() > 30

"""What the pictures show is what they were given."""

import numpy as np
import pytest

from itae_jax.report import comparisons
from itae_jax.report.comparisons import Bars, Curve
from itae_jax.report.efficiency import Efficiency

NAN = float("nan")


def drawn(figure):
    figure.canvas.draw()
    return figure.axes


def test_bars_have_the_heights_of_the_numbers_and_marks_at_the_papers():
    methods = [Bars("ITAE", [90, 80], [NAN, NAN], [91, NAN]), Bars("AE", [60, NAN], [1, NAN], [59, 58])]
    (ax,) = drawn(comparisons.bars_by_class(["cat", "dog"], methods))
    heights = [[bar.get_height() for bar in group] for group in ax.containers if hasattr(group, "patches")]
    np.testing.assert_array_equal(heights, [[90, 80], [60, NAN]])
    marks = [line.get_xydata().tolist() for line in ax.lines if line.get_marker() == "D"]
    assert [[height for _, height in of_method] for of_method in marks] == [[91], [59, 58]]
    centres = [
        [bar.get_x() + bar.get_width() / 2 for bar in group] for group in ax.containers if len(group) == 2
    ]
    assert marks[0][0][0] == pytest.approx(centres[0][0])
    assert [label.get_text() for label in ax.get_xticklabels()] == ["cat", "dog"]


def test_a_method_has_one_colour_wherever_its_column_stands():
    first, second = (
        comparisons.colours(["AE (reduced)", "AE+S", "ITAE, 5 epochs"]),
        comparisons.colours(["ITAE"]),
    )
    assert first[2] == second[0]
    assert comparisons.colours(["AE+G", "AE"])[1] == first[0]
    many = comparisons.colours(["ITAE", "ITAE (float32)", "x", "AE", "", "AE+G", "AE+R"])
    assert len(set(many)) == len(many)


@pytest.mark.parametrize("count", [1, 3, 14])
def test_legends_lie_within_their_picture(count):
    titles = [f"ITAE (an_experiment_of_a_long_name_{number})" for number in range(count)]
    bars = [Bars(title, [90], [NAN], [91]) for title in titles]
    curves = [Curve(title, np.array([5, 10]), np.array([[80.0, 90.0]])) for title in titles]
    for figure in (comparisons.bars_by_class(["cat"], bars), comparisons.curves_over_epochs([("7", curves)])):
        drawn(figure)
        (legend,) = figure.legends
        box = legend.get_window_extent()
        assert box.x0 >= 0
        assert box.x1 <= figure.bbox.width


def test_curves_are_means_over_seeds_in_bands_of_one_sd():
    curve = Curve("ITAE", np.array([5, 10]), np.array([[80.0, 90.0], [84.0, 90.0]]))
    single = Curve("AE", np.array([5, 10]), np.array([[50.0, 60.0]]))
    first, second, *_ = drawn(comparisons.curves_over_epochs([("7", [curve, single]), ("8", [None, single])]))
    np.testing.assert_allclose([line.get_ydata() for line in first.lines], [[82, 90], [50, 60]])
    (band,) = first.collections
    sd = np.std([80, 84], ddof=1)
    heights = band.get_paths()[0].vertices[:, 1]
    assert heights.min() == pytest.approx(82 - sd)
    assert heights.max() == pytest.approx(90)
    assert len(second.lines) == 1


def test_bubbles_lie_at_speed_and_auroc_and_grow_with_memory():
    methods = [Efficiency("ITAE", 200, 86, 400), Efficiency("paper: ITAE", 270, 86.6, 800, is_paper=True)]
    (ax,) = drawn(comparisons.bubbles(methods))
    assert [tuple(points.get_offsets()[0]) for points in ax.collections] == [(200, 86), (270, 86.6)]
    small, large = (points.get_sizes()[0] for points in ax.collections)
    assert large == 2 * small


def test_error_maps_outline_the_defect_where_there_is_a_mask(rng):
    originals = rng.integers(0, 256, (2, 16, 16, 3), np.uint8)
    masks = np.zeros((2, 16, 16), bool)
    masks[1, 4:8, 4:8] = True
    maps = rng.random((2, 16, 16))
    methods = [("AE", maps), ("ITAE", maps * 2)]
    figure = comparisons.error_maps(originals, masks, ["good", "dent"], np.array([False, True]), methods)
    axes = drawn(figure)
    assert [ax.get_title() for ax in axes[:3]] == ["image", "AE", "ITAE"]
    assert [len(ax.collections) for ax in axes] == [0, 0, 0, 1, 1, 1]
    np.testing.assert_array_equal(axes[4].images[-1].get_array(), maps[1])


def test_outlines_of_defects_at_the_edge_are_closed_and_show_all_of_the_image():
    masks = np.zeros((1, 16, 12), bool)
    masks[0, :5] = True
    methods = [("ITAE", np.ones((1, 16, 12)))]
    figure = comparisons.error_maps(
        np.zeros((1, 16, 12, 1), np.uint8), masks, ["dent"], np.array([True]), methods
    )
    for ax in drawn(figure):
        ((outline,),) = (path.to_polygons(closed_only=False) for path in ax.collections[0].get_paths())
        np.testing.assert_array_equal(outline[0], outline[-1])
        np.testing.assert_allclose([*outline.min(0), *outline.max(0)], [-0.5, -0.5, 11.5, 4.5])
        assert (*ax.get_xlim(), *ax.get_ylim()) == (-0.5, 11.5, 15.5, -0.5)

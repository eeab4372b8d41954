"""Pictures: what is drawn where, read back from the figure, and files that open and do not change between runs."""

import warnings
from xml.etree import ElementTree

import numpy as np
import pytest
from made_pages import frontier_rows
from PIL import Image

from mote.reporting import frontier_plot, plots
from mote.reporting.page import short

ROWS = [
    {
        "method": name,
        "closed_set": closed,
        "closed_set_interval": (closed - 0.03, closed + 0.02),
        "zero_shot": zero_shot,
        "zero_shot_interval": (zero_shot - 0.05, zero_shot + 0.04),
    }
    for name, closed, zero_shot in [
        ("tiny CLIP", 0.08, 0.10),
        ("mean pooling", 0.15, 0.15),
        ("temporal transformer", 0.90, 0.74),
        ("MoTE", 0.91, 0.78),
        ("MoTE, last expert", 0.90, 0.77),
    ]
]


@pytest.fixture
def drawn(monkeypatch):
    """Figures as they are saved, newest last."""
    figures = []
    save = plots._save

    def spy(figure, path):
        figures.append(figure)
        return save(figure, path)

    monkeypatch.setattr(plots, "_save", spy)
    return figures


def assert_opens(svg, png):
    assert ElementTree.parse(svg).getroot().tag.endswith("svg")
    with Image.open(png) as image:
        image.load()
        assert image.format == "PNG"


def test_tradeoff_points_and_bars_stand_where_the_rows_say(tmp_path, drawn):
    assert_opens(*plots.tradeoff_plot(ROWS, tmp_path / "new" / "trade.off"))
    axes = drawn[0].axes[0]
    assert len(axes.containers) == len(ROWS)
    for container, row in zip(axes.containers, ROWS, strict=True):
        point, _, (across, up) = container.lines
        np.testing.assert_allclose(point.get_xydata(), [[100 * row["closed_set"], 100 * row["zero_shot"]]])
        np.testing.assert_allclose(across.get_segments()[0][:, 0], 100 * np.array(row["closed_set_interval"]))
        np.testing.assert_allclose(up.get_segments()[0][:, 1], 100 * np.array(row["zero_shot_interval"]))
    looks = {(c.lines[0].get_color(), c.lines[0].get_marker()) for c in axes.containers}
    assert len(looks) == len(ROWS)


def test_tradeoff_names_stand_in_the_legend(tmp_path, drawn):
    plots.tradeoff_plot(ROWS, tmp_path / "trade")
    (legend,) = drawn[0].legends
    assert [text.get_text() for text in legend.get_texts()] == [row["method"] for row in ROWS]


def test_labels_on_the_frontier_cover_nothing_and_intervals_are_drawn(tmp_path, monkeypatch):
    figures, save = [], frontier_plot._save
    monkeypatch.setattr(frontier_plot, "_save", lambda figure, path: (figures.append(figure), save(figure, path))[1])
    rows = frontier_rows()
    frontier_plot.frontier_plot(rows, tmp_path / "frontier")
    (axes,) = figures[0].axes
    figures[0].set_dpi(100)
    figures[0].draw_without_rendering()
    labels = {frontier_plot.label_of(row) for row in rows}
    texts = [text for text in axes.texts if text.get_text() in labels]
    assert len(texts) >= len(rows) - 2  # of points upon points one or two may find no place
    boxes, frame = [text.get_window_extent() for text in texts], axes.get_window_extent()
    for i, box in enumerate(boxes):
        assert box.count_overlaps(boxes[:i]) == 0
        assert frame.x0 <= box.x0 and box.x1 <= frame.x1 and frame.y0 <= box.y0 and box.y1 <= frame.y1
    lines = [line.get_xydata() for line in axes.lines]
    for row in rows:
        across = 100 * np.array([[end, row["zero_shot"]] for end in row["closed_set_interval"]])
        assert any(line.shape == (2, 2) and np.allclose(line, across) for line in lines)


def test_long_names_keep_both_ends():
    assert short("ordinary class number 530", 20) == "ordinary clas\u2026er 530"
    assert short("  a\n b ", 20) == "a b" and short("abc", 3) == "abc"
    assert short("\u52d5\u4f5c\u306e\u540d\u524d", 9) == "\u52d5\u4f5c\u306e\u2026\u524d"


def test_curves_join_equal_harmonic_means(tmp_path, drawn):
    plots.tradeoff_plot(ROWS, tmp_path / "trade")
    contour = next(c for c in drawn[0].axes[0].collections if hasattr(c, "levels"))
    assert len(contour.levels) >= 3
    for level, path in zip(contour.levels, contour.get_paths(), strict=True):
        x, y = path.vertices.T
        np.testing.assert_allclose(2 * x * y / (x + y), level, rtol=0.02)


def test_tradeoff_takes_one_row_at_zero_and_odd_names(tmp_path):
    row = {"method": "$100 & <b>", "closed_set": 0.0, "zero_shot": 0.0}
    assert_opens(*plots.tradeoff_plot([row], tmp_path / "one"))
    assert_opens(*plots.tradeoff_plot([{**row, "closed_set": 1.0, "zero_shot": 1.0}], tmp_path / "top"))
    with pytest.raises(ValueError, match="at least one method"):
        plots.tradeoff_plot([], tmp_path / "none")


def test_paths_go_from_the_first_point_to_a_filled_last_one(tmp_path, drawn):
    paths = {"a": [(0.5, 0.6), (0.7, 0.65), (0.9, 0.62)], "$b": [(0.4, 0.3)]}
    assert_opens(*plots.paths_plot(paths, tmp_path / "paths"))
    lines = drawn[0].axes[0].get_lines()
    for (line, last), points in zip(zip(lines[::2], lines[1::2], strict=True), paths.values(), strict=True):
        np.testing.assert_allclose(line.get_xydata(), 100 * np.array(points))
        np.testing.assert_allclose(last.get_xydata(), 100 * np.array(points[-1:]))
        assert line.get_markerfacecolor() == "none" != last.get_markerfacecolor()
    assert [text.get_text() for text in drawn[0].legends[0].get_texts()] == ["a", "$b"]
    for nothing in ({}, {"a": []}):
        with pytest.raises(ValueError, match="nothing to draw"):
            plots.paths_plot(nothing, tmp_path / "none")


def test_the_same_rows_give_the_same_files(tmp_path):
    first, second = (plots.tradeoff_plot(ROWS, tmp_path / name) for name in ("a", "b"))
    for one, other in zip(first, second, strict=True):
        assert one.read_bytes() == other.read_bytes()


def test_confusion_shows_row_percentages(tmp_path, drawn):
    matrix = [[3, 1, 0], [0, 0, 0], [2, 2, 4]]
    assert_opens(*plots.confusion_plot(matrix, ["a", "$b", "c$ <d>"], tmp_path / "confusion"))
    shown = drawn[0].axes[0].images[0].get_array()
    np.testing.assert_allclose(shown[[0, 2]], [[75, 25, 0], [25, 25, 50]])
    assert shown.mask.tolist() == [[False] * 3, [True] * 3, [False] * 3]
    with pytest.raises(ValueError, match=r"\(3, 3\) but there are 2 class names"):
        plots.confusion_plot(matrix, ["a", "b"], tmp_path / "confusion")


def test_confusion_of_few_classes_names_and_numbers_them_of_many_numbers_them(tmp_path, drawn):
    for count in (3, 100):
        names = [f"class {i}" for i in range(count)]
        plots.confusion_plot(np.eye(count, dtype=int).tolist(), names, tmp_path / "confusion")
    few, many = ([text.get_text() for text in figure.axes[0].get_yticklabels()] for figure in drawn)
    assert few == ["class 0  1", "class 1  2", "class 2  3"] and not {*many} & {*names}


def test_a_cell_of_very_many_classes_is_the_largest_of_several(tmp_path, drawn):
    counts = np.eye(400, dtype=int) * 3
    counts[7, 391] = 1
    plots.confusion_plot(counts.tolist(), [str(i) for i in range(400)], tmp_path / "confusion")
    shown = drawn[0].axes[0].images[0].get_array()
    assert shown.shape == (134, 134) and shown[2, 130] == 25 and (shown.diagonal() == 100).sum() >= 133


def test_curves_show_every_term_and_nothing_else(tmp_path, drawn):
    records = [
        {
            "step": s,
            "epoch": 0,
            "lr": 1e-3,
            "loss": 3.0 / s,
            "ce": 2.0 / s,
            "anchor": 1.0 / s,
            "grad_norm": 9.0,
            "time": 1.0,
        }
        for s in range(1, 11)
    ]
    records.append({"step": 10, "epoch": 1, "evaluation": {"top1": 0.5}})
    assert_opens(*plots.curves_plot(records, tmp_path / "curves"))
    lines = {line.get_label(): line.get_xydata() for line in drawn[0].axes[0].lines}
    assert set(lines) == {"loss", "ce", "anchor"}
    np.testing.assert_allclose(lines["ce"], [(s, 2.0 / s) for s in range(1, 11)])


def test_long_curves_get_a_running_mean(tmp_path, drawn):
    values = np.random.default_rng(0).random(100)
    plots.curves_plot([{"step": i, "loss": float(v)} for i, v in enumerate(values)], tmp_path / "curves")
    raw, smooth = drawn[0].axes[0].lines
    assert len(raw.get_xdata()) == 100
    expected = [sum(values[i - 2 : i + 2]) / 4 for i in range(2, 99)]  # window 100 // 25, centred
    np.testing.assert_allclose(smooth.get_ydata(), expected)
    np.testing.assert_array_equal(smooth.get_xdata(), range(2, 99))


def test_a_log_without_losses_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="no losses yet"):
        plots.curves_plot([{"step": 1, "evaluation": {}}], tmp_path / "curves")


def test_no_pyplot_and_no_global_settings(tmp_path):
    import matplotlib

    before = dict(matplotlib.rcParams)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plots.tradeoff_plot(ROWS, tmp_path / "trade")
    assert dict(matplotlib.rcParams) == before

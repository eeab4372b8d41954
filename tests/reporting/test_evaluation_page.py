"""The page of an evaluation against the scores it was made from, and its pictures read back from their figures."""

import csv
import json
import re

import numpy as np
import pytest
from made_evaluation import dots, make_clips, make_evaluation
from matplotlib.container import BarContainer

from mote.metrics.from_table import differences
from mote.metrics.open_set import open_set
from mote.metrics.scores import Scores, summarize
from mote.metrics.statistics import accuracy_without, half_class_accuracy, union_report
from mote.reporting import evaluation_page, evaluation_plots
from mote.reporting.contact_sheet import shown_clip
from mote.reporting.evaluation_page import confused_pairs, write_evaluation_page
from mote.reporting.page import Section, percent

CLASSES = ["climbing & co", "fight", "no fight", "sur<f>", "$kiing"]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_evaluation(tmp_path_factory.mktemp("made"), CLASSES, clips_each=12)


@pytest.fixture(scope="module")
def files():
    """Contents of the figures that are drawn once for all pages, by what they show."""
    return {}


@pytest.fixture
def once(monkeypatch, files):
    """Figures of the same numbers are drawn once, by the function itself; for tests of what else is on a page."""

    def kept(draw):
        def drawn(*given):
            *numbers, path = given
            key = draw.__name__, json.dumps(numbers)
            if key not in files:
                files[key] = {file.suffix: file.read_bytes() for file in draw(*given)}
            path.parent.mkdir(parents=True, exist_ok=True)
            pair = [path.with_name(path.name + suffix) for suffix in files[key]]
            for file, content in zip(pair, files[key].values(), strict=True):
                file.write_bytes(content)
            return pair

        return drawn

    for name in ("recall_plot", "confusion_plot", "calibration_plot"):
        monkeypatch.setattr(evaluation_page, name, kept(getattr(evaluation_page, name)))


@pytest.fixture(scope="module")
def plain(made, tmp_path_factory):
    """The page of it without clips."""
    return write_evaluation_page(tmp_path_factory.mktemp("plain") / "index.html", made.result, made.predictions)


@pytest.fixture(scope="module")
def illustrated(made, tmp_path_factory):
    """The page of it with clips."""
    place = tmp_path_factory.mktemp("illustrated") / "index.html"
    return write_evaluation_page(place, made.result, made.predictions, make_clips(made))


@pytest.fixture
def drawn(monkeypatch):
    """Figures of recall and calibration as they are saved."""
    figures = []
    save = evaluation_plots._save

    def spy(figure, path):
        figures.append(figure)
        return save(figure, path)

    monkeypatch.setattr(evaluation_plots, "_save", spy)
    return figures


def read_csv(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def table(html, heading):
    """Cells of the first table after a heading, as text."""
    body = html.split(f"<h2>{heading}</h2>")[1].split("<tbody>")[1].split("</tbody>")[0]
    rows = [re.findall(r"<td[^>]*>(.*?)</td>", row, re.DOTALL) for row in body.split("</tr>")[:-1]]
    return [[re.sub(r"<[^>]*>", "", cell) for cell in row] for row in rows]


def headings(html):
    return re.findall(r"<h2>(.*?)</h2>", html)


def test_numbers_are_those_of_the_scores(made, plain):
    html = plain.read_text()
    scores = made.scores
    right = int(((scores.probabilities.argmax(axis=1) == scores.label) & scores.valid).sum())
    rows = table(html, "Numbers")
    assert rows[0] == ["top-1 (%)", percent(right / 60, made.result["top1_interval"]), f"{right} of 60"]
    assert rows[1][0] == "top-5 (%)" and rows[1][2] == "58 of 60"  # five classes: all but the undecodable
    assert rows[2][2] == "5 of 5 classes"
    assert "58 of 60 listed clips were decoded" in html and "The 2 that could not" in html
    assert [row["count"] for row in read_csv(plain.parent / "summary.csv")] == [row[2] for row in rows]
    for path in made.result["undecodable"]:
        assert path in html
    assert "sha256:" + "0" * 64 in html and "numpy " + np.__version__ in html


def test_page_stands_alone_and_everything_lies_beside_it(made, illustrated):
    clips, page = make_clips(made), illustrated
    html = page.read_text()
    assert page.stat().st_size < 3_000_000
    assert not re.search(r"https?:|@import|url\((?!#)|<iframe", html) and html.count("<script") == 1
    images = re.findall(r'<img src="(data:[^"]+)"[^>]*alt="([^"]*)"', html)
    assert len(images) == html.count("<img") == 8 * len(clips) and html.count("<svg") == 3
    assert all(alt for _, alt in images)
    pictures = [f"{name}.{ending}" for name in ("calibration", "confusion", "recall") for ending in ("png", "svg")]
    tables = ["calibration.csv", "confused.csv", "per_class.csv", "summary.csv"]
    assert sorted(file.name for file in page.parent.iterdir()) == sorted([*pictures, *tables, "index.html"])
    for name in ("calibration", "confusion", "recall"):
        drawn = re.findall(r"<text[^>]*>([^<]*)", (page.parent / f"{name}.svg").read_text())
        assert drawn and all(f">{text}<" in html for text in drawn)
    assert html.count('<article class="clip">') == len(clips)
    order = ["Numbers", "Recall per class", "Confusions", "Reliability", "Right and most certain"]
    assert headings(html) == [*order, "Wrong and most certain", "Could not be decoded", "Provenance"]


def test_strips_of_right_and_wrong_clips_share_a_scale(made, tmp_path, once):
    right, wrong = (next(row for row in made.predictions if row["correct"] == c and row["valid"] == "1") for c in "10")
    clips = [shown_clip(row, dots(1), np.array([value])) for row, value in ((right, -8.0), (wrong, -2.0))]
    html = write_evaluation_page(tmp_path / "index.html", made.result, made.predictions, clips).read_text()
    strips = [part.split("<ol")[0] for part in html.split('<div class="frames"')[1:]]
    colours = [re.findall(r"background: #(..)(..)(..)", strip) for strip in strips]
    # A quarter of the way from #f2f2f2 to #d55e00 in the second.
    assert [[int(c, 16) for c in colour] for (colour,) in colours] == [[213, 94, 0], [235, 205, 182]]


def test_same_input_same_page(made, illustrated, tmp_path):
    again = write_evaluation_page(tmp_path / "index.html", made.result, made.predictions, make_clips(made))
    assert again.read_bytes() == illustrated.read_bytes()


def test_confusions_equal_a_recount(made, tmp_path, once, monkeypatch):
    matrices = []
    draw = evaluation_page.confusion_plot
    monkeypatch.setattr(
        evaluation_page, "confusion_plot", lambda m, c, *more: (matrices.append((m, list(c))), draw(m, c, *more))[1]
    )
    page = write_evaluation_page(tmp_path / "page" / "index.html", made.result, made.predictions)
    assert matrices == [(made.result["confusion_matrix"], CLASSES)]
    predicted = made.scores.probabilities.argmax(axis=1)
    pairs = confused_pairs(made.predictions)
    expected = {}
    for i in np.flatnonzero(made.scores.valid):
        if predicted[i] != made.scores.label[i]:
            key = (CLASSES[made.scores.label[i]], CLASSES[predicted[i]])
            expected[key] = expected.get(key, 0) + 1
    assert {(pair["true"], pair["predicted"]): pair["clips"] for pair in pairs} == expected
    # Two clips of the last class were not decoded: they are neither confused nor part of the whole.
    assert all(pair["of"] == (10 if pair["true"] == "$kiing" else 12) for pair in pairs)
    assert all(pair["share"] == pair["clips"] / pair["of"] for pair in pairs)
    assert [pair["clips"] for pair in pairs] == sorted(expected.values(), reverse=True)
    assert [int(row["clips"]) for row in read_csv(page.parent / "confused.csv")] == [p["clips"] for p in pairs]
    assert [row[2] for row in table(page.read_text(), "Confusions")] == [f"{p['clips']} of {p['of']}" for p in pairs]


def test_per_class_table_is_complete_and_escaped(made, plain):
    html = plain.read_text()
    assert "sur<f>" not in html and "sur&lt;f&gt;" in html and "climbing &amp; co" in html
    rows = read_csv(plain.parent / "per_class.csv")
    assert [row["class"] for row in rows] == CLASSES
    right = made.scores.probabilities.argmax(axis=1) == made.scores.label
    for k, row in enumerate(rows):
        assert int(row["correct"]) == (right & made.scores.valid)[made.scores.label == k].sum()
        assert float(row["recall"]) == int(row["correct"]) / 12


def bars(axes):
    names = [label.get_text() for label in axes.get_yticklabels()]
    (container,) = (c for c in axes.containers if isinstance(c, BarContainer))
    return dict(zip(names, [bar.get_width() for bar in container], strict=True))


def test_few_classes_all_get_a_bar(made, tmp_path, drawn):
    evaluation_plots.recall_plot(made.result["per_class"], tmp_path / "recall")
    (axes,) = drawn[0].axes
    assert bars(axes) == {row["class"]: 100 * row["recall"] for row in made.result["per_class"]}
    assert list(bars(axes).values()) == sorted(bars(axes).values())


def test_many_classes_get_a_strip_and_the_extremes(tmp_path, drawn):
    rng = np.random.default_rng(0)
    rows = [{"class": f"class {i}", "listed": 50, "correct": int(c)} for i, c in enumerate(rng.integers(0, 51, 400))]
    rows = [{**row, "recall": row["correct"] / 50} for row in rows]
    evaluation_plots.recall_plot(rows, tmp_path / "recall")
    strip, worst, best = drawn[0].axes
    recalls = sorted(100 * row["recall"] for row in rows)
    assert list(bars(worst).values()) == recalls[:20] and list(bars(best).values()) == recalls[-20:]
    own = {row["class"]: 100 * row["recall"] for row in rows}
    assert all(own[name] == value for axes in (worst, best) for name, value in bars(axes).items())
    outline = strip.collections[0].get_paths()[0].vertices
    assert [outline[np.abs(outline[:, 0] - i - 0.5) < 0.51, 1].max() for i in (0, 200, 399)] == [
        recalls[i] for i in (0, 200, 399)
    ]
    np.testing.assert_allclose(strip.lines[0].get_ydata(), np.mean(recalls))


def test_everything_drawn_lies_inside_the_picture(tmp_path, drawn):
    rows = [
        {"class": f"a rather long name of a class, number {i}", "listed": 99999, "correct": 99999, "recall": 1.0}
        for i in range(60)
    ]
    evaluation_plots.recall_plot(rows, tmp_path / "recall")
    drawn[0].set_dpi(100)
    drawn[0].draw_without_rendering()
    box, whole = drawn[0].get_tightbbox(), drawn[0].get_size_inches()
    assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= whole[0] and box.y1 <= whole[1]


def test_reliability_points_and_counts(made, tmp_path, drawn):
    calibration = made.result["calibration"]
    evaluation_plots.calibration_plot(calibration, tmp_path / "calibration")
    curve, counts = drawn[0].axes
    full = [row for row in calibration["bins"] if row["count"]]
    expected = [(100 * row["confidence"], 100 * row["accuracy"]) for row in full]
    np.testing.assert_allclose(curve.lines[1].get_xydata(), expected)
    np.testing.assert_allclose(curve.collections[0].get_offsets(), expected)
    (container,) = (c for c in counts.containers if isinstance(c, BarContainer))
    assert [bar.get_height() for bar in container] == [row["count"] for row in full]
    assert sum(bar.get_height() for bar in container) == 58
    np.testing.assert_allclose([bar.get_x() for bar in container], [100 * row["low"] for row in full])
    empty = [{**row, "count": 0} for row in calibration["bins"]]
    with pytest.raises(ValueError, match="every bin of the calibration is empty"):
        evaluation_plots.calibration_plot({"bins": empty}, tmp_path / "calibration")


def test_what_only_some_evaluations_measure(made, tmp_path, once):
    scores, rng = made.scores, np.random.default_rng(0)
    result = {
        **made.result,
        "protocol": {"identifier": "folder-zs@1", "digest": "b" * 64},
        "halves": half_class_accuracy(scores.probabilities[:, None], scores.label, scores.valid),
        "overlap": accuracy_without(scores.probabilities, scores.label, {1, 2}, scores.valid),
        "union": union_report(np.hstack([scores.probabilities, rng.random((60, 3))]), scores.label, 5, scores.valid),
        "open_set": open_set(scores.probabilities.max(axis=1)[scores.valid], rng.random(30)),
    }
    html = write_evaluation_page(tmp_path / "page" / "index.html", result, made.predictions).read_text()
    rows = {row[0]: row[1:] for row in table(html, "Numbers")}
    halves, without, union, known = (
        result["halves"],
        result["overlap"]["without"],
        result["union"],
        result["open_set"],
    )
    assert rows["top-1 among half the classes (%), mean ± std"] == [
        f"{100 * halves['mean']:.1f} ± {100 * halves['std']:.1f}",
        "10 halves",
    ]
    assert rows["top-1 without 2 classes known from tuning (%)"][1] == f"{without['top1_correct']} of 36"
    assert rows["top-1, 3 other classes competing (%)"][1] == f"{union['top1_union_correct']} of 60"
    assert rows["fell on one of the other classes (%)"][1] == f"{union['fell_on_other_count']} of 60"
    rows |= {row[0]: row[1:] for row in table(html, "None of these")}
    area = [percent(known["auroc"], known["auroc_interval"]), "58 + 30 clips"]
    assert rows["AUROC of the highest probability (%)"] == area
    threshold = f"{known['threshold']:.3g}"
    assert rows[f"clips of no listed class below {threshold} (%)"][1] == f"{known['unknown_rejected_count']} of 30"
    assert rows[f"listed clips at or above {threshold} (%)"][1] == f"{known['known_accepted_count']} of 58"
    assert rows["expected calibration error (%)"] == [percent(result["calibration"]["ece"]), "58 clips"]
    assert "Protocol: folder-zs@1." in html and "b" * 64 in html
    assert (
        "Protocol: own."
        in write_evaluation_page(
            tmp_path / "page" / "index.html", {**made.result, "protocol": "own"}, made.predictions
        ).read_text()
    )


def test_a_result_with_nothing_optional(made, tmp_path, once):
    result = {
        key: value for key, value in made.result.items() if key not in ("calibration", "provenance", "undecodable")
    }
    html = write_evaluation_page(tmp_path / "page" / "index.html", result, made.predictions).read_text()
    assert headings(html) == ["Numbers", "Recall per class", "Confusions", "Provenance"]
    assert len(table(html, "Numbers")) == 3


def test_extra_sections_and_title(made, tmp_path, once):
    page = write_evaluation_page(
        tmp_path / "index.html", made.result, made.predictions, extra=[Section("Mine", "Words.")], title="Split 1"
    )
    assert headings(page.read_text())[:2] == ["Numbers", "Mine"]
    assert "<h1>Split 1</h1>" in page.read_text()


def test_parts_of_two_evaluations_are_refused(made, tmp_path):
    with pytest.raises(ValueError, match=r"predictions hold 59 clips.*result says 60"):
        write_evaluation_page(tmp_path / "index.html", made.result, made.predictions[:-1])
    wrong = [{**row, "correct": "0"} for row in made.predictions]
    with pytest.raises(ValueError, match=r"pass the \.json and \.csv of the same evaluation"):
        write_evaluation_page(tmp_path / "index.html", made.result, wrong)


def test_a_perfect_and_a_hopeless_model_with_an_absent_class(tmp_path):
    for name, predicted in (("perfect", [0, 0, 1]), ("hopeless", [2, 2, 2])):
        scores = Scores(np.arange(3), np.array([0, 0, 1]), np.eye(3)[predicted] * 0.8 + 0.2 / 3, np.ones(3, bool))
        classes = ["a", "b", "動作"]
        right = [int(p == k) for p, k in zip(predicted, scores.label, strict=True)]
        rows = [
            {"path": "x.mp4", "label": classes[k], "predicted": classes[p], "correct": str(c), "valid": "1"}
            | {"probability": "0.867", "top1": classes[p], "top1_probability": "0.867"}
            for k, p, c in zip(scores.label, predicted, right, strict=True)
        ]
        clips = [shown_clip(rows[0], dots(2))]
        page = write_evaluation_page(tmp_path / name / "index.html", summarize(scores, classes), rows, clips)
        html = page.read_text()
        assert "No clip is listed of 1 classes: 動作." in html
        assert ("No decoded clip was taken for another class." in html) == (name == "perfect")
        assert ("Right and most certain" in html) == (name == "perfect") != ("Wrong and most certain" in html)
        assert len(read_csv(page.parent / "confused.csv")) == (0 if name == "perfect" else 2)


def test_long_lists_of_lost_files_are_cut(tmp_path):
    made = make_evaluation(tmp_path, ["a", "b"], clips_each=40, lost=70)
    html = write_evaluation_page(tmp_path / "page" / "index.html", made.result, made.predictions).read_text()
    assert html.split("Could not be decoded")[-1].count(".mp4") == 50
    assert "... and 20 more" in html


@pytest.mark.slow
def test_four_hundred_classes_fit_on_a_page(tmp_path):
    classes = [f"class number {i}" for i in range(400)]
    made = make_evaluation(tmp_path / "made", classes, clips_each=5)
    page = write_evaluation_page(tmp_path / "page" / "index.html", made.result, made.predictions, make_clips(made))
    html = page.read_text()
    assert page.stat().st_size < 3_000_000
    pairs = confused_pairs(made.predictions)
    assert len(pairs) > 100 and len(table(html, "Confusions")) == 20
    assert f"20 of {len(pairs)}" in html
    assert "Key: the names of the 400 numbers" in html and "<b>400</b> class number 399" in html
    assert "Show all 400 rows" in html
    assert json.dumps(made.result["provenance"]["config"])[1:-1] in html.replace("&#34;", '"')


def test_more_classes_than_a_matrix_can_show(made, tmp_path, once):
    """A result of as many classes has none; the pairs are still told, and a recount does not ask for it."""
    result = {**made.result, "confusion_matrix": None}
    page = write_evaluation_page(tmp_path / "page" / "index.html", result, made.predictions)
    assert not (page.parent / "confusion.svg").exists() and (page.parent / "confused.csv").exists()
    assert "The pairs with most clips" in page.read_text()
    assert differences(result, made.predictions, CLASSES) == []
    assert differences({**made.result, "confusion_matrix": [[0]]}, made.predictions, CLASSES) != []

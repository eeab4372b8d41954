"""Paired comparison against recounts, on files written by the evaluation itself."""

import json
import math
import random

import numpy as np
import pytest

from mote.evaluation import results
from mote.files import provenance
from mote.metrics.accuracy import NORMAL_QUANTILE_95, wilson_interval
from mote.metrics.compare import class_table, compare, comparison_table, read_result
from mote.metrics.result_files import ResultError
from mote.metrics.scores import Scores, summarize
from mote.reporting.page import text_table

CLASSES = ["wave, twice", 'say "hi"', "läuft", "never listed"]


def write(folder, name, predicted, label, *, paths=None, hashes=None, classes=CLASSES, reverse=False):
    """Write a result in which clip i is predicted as `predicted[i]`, None where it was not decoded."""
    order = list(range(len(label)))[:: -1 if reverse else 1]
    probabilities = np.zeros((len(label), len(classes)))
    for row, i in enumerate(order):
        if predicted[i] is not None:
            probabilities[row] = 0.1
            probabilities[row, predicted[i]] = 0.7
    paths = [f"clips/{i}.mp4" for i in range(len(label))] if paths is None else paths
    labels = np.array([label[i] for i in order])
    scores = Scores(np.arange(len(label)), labels, probabilities, probabilities.any(axis=1))
    hashes = {"manifest": "0" * 64, "classes": "1" * 64} if hashes is None else hashes
    path, _ = results.write_results(
        folder,
        name,
        summarize(scores, classes),
        records=[(paths[i], label[i]) for i in order],
        classes=classes,
        scores=scores,
        provenance=provenance.provenance(config={}, hashes=hashes, seed=0),
    )
    return path


def compared(first, second, **arguments):
    a, b = read_result(first), read_result(second)
    return compare(a.document, b.document, a.predictions, b.predictions, **arguments)


@pytest.fixture
def world():
    """Labels and the predictions of two models; some clips are not decoded by one or both."""
    rng = random.Random(0)
    label = [rng.randrange(3) for _ in range(200)]
    a = [own if rng.random() < 0.5 else rng.randrange(4) for own in label]
    b = [guess if rng.random() < 0.5 else own for guess, own in zip(a, label, strict=True)]
    for i in range(0, 200, 17):
        a[i] = None
    for i in range(0, 200, 23):
        b[i] = None
    return label, a, b


def test_report_equals_a_recount(tmp_path, world):
    label, a, b = world
    report = compared(write(tmp_path, "a", a, label), write(tmp_path, "b", b, label, reverse=True))
    table = {(x, y): 0 for x in (True, False) for y in (True, False)}
    for own, one, other in zip(label, a, b, strict=True):
        table[one == own, other == own] += 1
    assert report["both_right"] == table[True, True]
    assert report["both_wrong"] == table[False, False]
    assert report["only_a"] == table[True, False] > 0
    assert report["only_b"] == table[False, True] > 0
    assert report["videos"] == 200
    assert report["difference"] == pytest.approx(report["b"]["top1"] - report["a"]["top1"], abs=1e-12)
    for side, guesses in (("a", a), ("b", b)):
        count = sum(guess == own for guess, own in zip(guesses, label, strict=True))
        assert report[side]["correct"] == count
        assert report[side]["top1_interval"] == list(wilson_interval(count, 200))
        assert report[side]["undecodable"] == sum(guess is None for guess in guesses)
        assert report[side]["task"] == side
    n, k = report["only_a"] + report["only_b"], min(report["only_a"], report["only_b"])
    assert report["p_value"] == pytest.approx(min(1.0, 2 * sum(math.comb(n, i) for i in range(k + 1)) / 2**n))
    assert report["warnings"] == []


def test_interval_of_the_difference_has_the_analytic_width(tmp_path, world):
    label, a, b = world
    report = compared(write(tmp_path, "a", a, label), write(tmp_path, "b", b, label))
    share, difference = (report["only_a"] + report["only_b"]) / 200, report["difference"]
    half = NORMAL_QUANTILE_95 * math.sqrt((share - difference**2) / 200)  # variance of values -1, 0, 1
    low, high = report["difference_interval"]
    # The bootstrap means are multiples of 1 / 200, so the limits may be half a step off beside their noise.
    assert low == pytest.approx(difference - half, abs=0.06 * half + 0.0025)
    assert high == pytest.approx(difference + half, abs=0.06 * half + 0.0025)


def test_per_class_differences_are_sorted_recounts(tmp_path, world):
    label, a, b = world
    rows = compared(write(tmp_path, "a", a, label), write(tmp_path, "b", b, label, reverse=True))["per_class"]
    assert {row["class"] for row in rows} == set(CLASSES[:3])
    for row in rows:
        clips = [i for i in range(200) if CLASSES[label[i]] == row["class"]]
        counts = [sum(guesses[i] == label[i] for i in clips) for guesses in (a, b)]
        assert (row["listed"], row["a_correct"], row["b_correct"]) == (len(clips), *counts)
        assert row["difference"] == pytest.approx((counts[1] - counts[0]) / len(clips), abs=1e-12)
    gains = [row["difference"] for row in rows]
    assert gains == sorted(gains, reverse=True)
    assert gains[0] > gains[-1]


def test_class_table_shows_the_largest_gains_and_losses(tmp_path):
    names = [f"class {i}" for i in range(14)]
    label = [i for i in range(14) for _ in range(20)]
    # b gains i clips on class i up to 6 and loses i - 6 on the others.
    gain = [min(i, 6) if i <= 6 else 6 - i for i in range(14)]
    right = {"a": [10] * 14, "b": [10 + g for g in gain]}
    guesses = {
        side: [own if place < right[side][own] else (own + 1) % 14 for own in range(14) for place in range(20)]
        for side in "ab"
    }
    report = compared(*(write(tmp_path, side, guesses[side], label, classes=names) for side in "ab"))
    rows = class_table(report, 3)
    assert [row["class"] for row in rows] == [f"class {i}" for i in (6, 5, 4, 11, 12, 13)]
    assert rows[0] == {"class": "class 6", "a": "10 of 20", "b": "16 of 20", "b - a %": "+30.0"}
    assert rows[-1] == {"class": "class 13", "a": "10 of 20", "b": "3 of 20", "b - a %": "-35.0"}
    assert len(class_table(report, 99)) == 13  # class 0 does not differ
    assert class_table(compared(*(write(tmp_path, "a", guesses["a"], label, classes=names) for _ in "ab"))) == []


def test_swapping_the_sides_flips_the_sign(tmp_path, world):
    label, a, b = world
    first, second = write(tmp_path, "a", a, label), write(tmp_path, "b", b, label, reverse=True)
    forward, backward = compared(first, second), compared(second, first)
    assert backward["difference"] == -forward["difference"]
    assert backward["p_value"] == forward["p_value"]
    assert (backward["only_a"], backward["only_b"]) == (forward["only_b"], forward["only_a"])
    low, high = forward["difference_interval"]
    assert backward["difference_interval"] == pytest.approx([-high, -low], abs=0.011)  # other draws, steps of 0.005


def test_the_seed_decides_the_interval(tmp_path):
    rng = random.Random(1)
    label = [0] * 3000
    first, second = (write(tmp_path, name, rng.choices((0, 1), k=3000), label) for name in "ab")
    reports = [compared(first, second, seed=seed) for seed in (0, 0, 1, 2, 3)]
    assert reports[0] == reports[1]
    assert len({tuple(report["difference_interval"]) for report in reports}) > 1


@pytest.mark.parametrize(
    ("a", "b", "difference", "p_value"),
    [
        ([0], [0], 0.0, 1.0),  # one clip, no discordant pair
        ([1], [0], 1.0, 1.0),
        ([None], [None], 0.0, 1.0),  # undecodable on both sides is wrong on both
        ([0] * 8, [0] * 8, 0.0, 1.0),  # all right
        ([1] * 8, [1] * 8, 0.0, 1.0),  # all wrong
        ([1] * 8, [0] * 8, 1.0, 2 / 2**8),
        ([None] * 8, [0] * 8, 1.0, 2 / 2**8),
        ([0] * 8, [1] * 8, -1.0, 2 / 2**8),
    ],
)
def test_edges_of_one_class(tmp_path, a, b, difference, p_value):
    label = [0] * len(a)
    report = compared(write(tmp_path, "a", a, label), write(tmp_path, "b", b, label))
    assert (report["difference"], report["p_value"]) == (difference, p_value)
    assert report["difference_interval"] == [difference, difference]
    assert [row["class"] for row in report["per_class"]] == [CLASSES[0]]
    json.dumps(report, allow_nan=False)


def test_a_result_against_itself(tmp_path, world):
    label, a, _ = world
    path = write(tmp_path, "a", a, label)
    report = compared(path, path)
    assert (report["only_a"], report["only_b"], report["p_value"]) == (0, 0, 1.0)
    assert report["a"] == report["b"]


def test_names_survive_the_files(tmp_path):
    odd = [
        "a, b.mp4",
        'c"d.mp4',
        "line\nbreak.mp4",
        "para\u2028graph.mp4",
        b"caf\xe9.mp4".decode("utf-8", "surrogateescape"),
    ]
    first = write(tmp_path, "ucf@1.0", [0, 1, 2, None, 1], [0, 1, 2, 0, 1], paths=odd)
    second = write(tmp_path, "b", [0, 0, 0, 0, 0], [0, 1, 2, 0, 1], paths=odd, reverse=True)
    read = read_result(first)
    assert read.predictions.paths == tuple(odd)
    assert read.predictions.label == tuple(CLASSES[i] for i in (0, 1, 2, 0, 1))
    assert read.predictions.predicted == (CLASSES[0], CLASSES[1], CLASSES[2], "", CLASSES[1])
    assert read.predictions.correct.tolist() == [True, True, True, False, True]
    assert read.predictions.valid.tolist() == [True, True, True, False, True]
    report = compared(first, second)
    assert (report["only_a"], report["only_b"]) == (3, 1)


def test_other_lists_are_a_warning(tmp_path):
    first = write(tmp_path, "a", [0], [0], hashes={"manifest": "a" * 64, "classes": "c" * 64})
    second = write(tmp_path, "b", [0], [0], hashes={"manifest": "b" * 64, "classes": "c" * 64})
    third = write(tmp_path, "c", [0], [0], hashes={"manifest": "a" * 64})
    (warning,) = compared(first, second)["warnings"]
    assert warning == "lists of videos differ (SHA-256 of manifest: a aaaaaaaaaaaa, b bbbbbbbbbbbb)"
    (warning,) = compared(first, third)["warnings"]
    assert warning == "lists of classes: no SHA-256 of classes in b; cannot tell if they agree"


def test_other_videos_are_an_error_that_names_the_first(tmp_path):
    first = write(tmp_path, "a", [0, 0, 0, 0], [0] * 4, paths=["x", "p", "q", "y"])
    second = write(tmp_path, "b", [0, 0, 0], [0] * 3, paths=["y", "z", "x"])
    third = write(tmp_path, "c", [0, 0], [0] * 2, paths=["x", "y"])
    with pytest.raises(
        ResultError, match=r"^p is only in .*a\.csv: 2 videos are only in .*a\.csv, 1 only in .*b\.csv; "
    ):
        compared(first, second)
    with pytest.raises(
        ResultError, match=r"^z is only in .*b\.csv: 0 videos are only in .*c\.csv, 1 only in .*b\.csv; "
    ):
        compared(third, second)


def test_other_labels_and_repeated_videos_are_errors(tmp_path):
    first = write(tmp_path, "a", [0, 0], [0, 1], paths=["x", "y"])
    second = write(tmp_path, "b", [0, 0], [0, 2], paths=["x", "y"])
    with pytest.raises(ResultError, match=r"^y is 'say \"hi\"' in .*a\.csv but 'läuft' in .*b\.csv"):
        compared(first, second)
    twice = write(tmp_path, "c", [0, 0, 0], [0, 0, 0], paths=["x", "y", "y"])
    for pair in ((first, twice), (twice, first)):
        with pytest.raises(ResultError, match=r"c\.csv: y is listed twice"):
            compared(*pair)


def test_missing_files_are_named(tmp_path):
    with pytest.raises(ResultError, match=r"none\.json: no such file"):
        read_result(tmp_path / "none.json")
    with pytest.raises(ResultError, match="is a folder; name a result in it"):
        read_result(tmp_path)
    path = write(tmp_path, "a", [0], [0])
    path.with_suffix(".csv").unlink()
    with pytest.raises(ResultError, match=r"a\.csv: no such file; a result is NAME\.json with NAME\.csv"):
        read_result(str(path))


def test_a_joint_result_points_to_those_of_its_lists(tmp_path):
    document = {"listed": 2, "scored": 2, "top1_correct": 1}
    lists = {name: {"file": f"zs-{name}.json", "sha256": ""} for name in ("test1", "test2")}
    (tmp_path / "zs.json").write_text(json.dumps({**document, "lists": lists}))
    with pytest.raises(ResultError, match=r"one by one: .*zs-test1\.json, .*zs-test2\.json$") as error:
        read_result(tmp_path / "zs.json")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("text", ["", "{", "\xff", "[1]", "{}", '{"listed": "2"}'])
def test_damaged_json_is_named(tmp_path, text):
    path = write(tmp_path, "a", [0], [0])
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(ResultError, match=r"a\.json: not a result file"):
        read_result(path)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda text: "", "no column path, label, predicted, correct, valid"),
        (lambda text: text.replace(",valid,", ",walid,"), "no column valid"),
        (lambda text: text.split("\n", 1)[0] + "\n", "no predictions"),
        (lambda text: text[: text.rindex("clips/2") + 9], r"a\.csv:4: damaged line"),
        (lambda text: text + '"open', r"a\.csv:5: damaged line"),
        (lambda text: text.replace("clips/0", '"clips"/0'), r"a\.csv:2: damaged line"),
        (lambda text: text.replace(",1,1,", ",1,yes,", 1), r"a\.csv:2: damaged line"),
        (lambda text: text.replace(",1,1,", ",1,0,", 1), r"a\.csv:2: damaged line"),  # right without being decoded
        (lambda text: text[: text.rindex("clips/2")], r"listed is 2 but 3 in a\.json"),
        (lambda text: text.replace(",1,1,", ",0,1,", 1), r"top1_correct is 0 but 1 in a\.json"),
        (lambda text: text.replace(",0,0,", ",0,1,", 1), r"a\.csv:4: damaged line"),  # decoded, but no probability
    ],
)
def test_damaged_predictions_are_named(tmp_path, damage, message):
    path = write(tmp_path, "a", [0, 0, None], [0, 1, 2])
    table = path.with_suffix(".csv")
    text = table.read_text(encoding="utf-8")
    assert damage(text) != text
    table.write_text(damage(text), encoding="utf-8")
    with pytest.raises(ResultError, match=message):
        read_result(path)


def test_table(tmp_path):
    label = [0] * 10
    first, second = (
        write(tmp_path, name, guesses, label)
        for name, guesses in (("a", [0] * 2 + [None] + [1] * 7), ("b", [1] + [0] * 9))
    )
    rows = comparison_table(compared(first, second))
    assert [row["result"] for row in rows] == [f"a: {first}", f"b: {second}", "b - a"]
    assert [row["right"] for row in rows] == ["2 of 10", "9 of 10", "+8 -1"]
    assert [row["not decoded"] for row in rows] == ["1", "0", ""]
    assert [row["p"] for row in rows] == ["", "", "0.039"]  # 2 * (1 + 9) / 2^9
    assert rows[0]["top-1 %"] == "20.0 [5.7, 51.0]"  # Wilson
    assert rows[2]["top-1 %"].startswith("+70.0 [+")
    assert len(text_table(rows).splitlines()) == 5

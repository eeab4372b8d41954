"""Every number that a table of predictions determines is computed again, and what it does not determine is named."""

import copy
import hashlib
import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mote.evaluation.results import write_results
from mote.evaluation.videos import half_predictions
from mote.files.provenance import provenance
from mote.metrics.compare import compare, comparison_table, read_result
from mote.metrics.from_table import differences, recount
from mote.metrics.imbalance import compare_knowledge, imbalance_summary
from mote.metrics.open_set import open_set_report
from mote.metrics.result_files import ResultError, read_table
from mote.metrics.scores import Scores, summarize
from mote.metrics.statistics import accuracy_without, half_class_accuracy, union_report
from mote.protocols.verification import verify_result

FEW = ["calm", "happy", "sad", "angry"]
MANY = [f"class {i}" for i in range(9)]
MISSING = object()


def drawn(rng: np.random.Generator, classes: list[str], count: int = 60, own: int | None = None) -> Scores:
    label, valid = rng.integers(0, own or len(classes), count), rng.random(count) > 0.1
    logits = rng.normal(size=(count, len(classes))) + 2 * np.eye(len(classes))[label]
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True) * valid[:, None]
    return Scores(np.arange(count), label, probabilities, valid)


def write(folder: Path, name: str, classes: list[str], scores: Scores, summary: dict, columns=None) -> Path:
    digest = hashlib.sha256("".join(f"{one}\n" for one in classes).encode()).hexdigest()
    config = {"evaluation": {"manifest": "list.txt"}}
    origin = provenance(config=config, hashes={"manifest": "0" * 64, "weights": "1" * 64, "classes": digest}, seed=0)
    records = [(f"clips/{n}.mp4", int(k)) for n, k in enumerate(scores.label)]
    return write_results(
        folder, name, summary, records=records, classes=classes, scores=scores, provenance=origin, columns=columns
    )[0]


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> dict[str, tuple[Path, list[str]]]:
    """Results with all that a table determines: one of few classes with their frequencies, one of many."""
    folder, rng = tmp_path_factory.mktemp("results"), np.random.default_rng(0)
    few, other = drawn(rng, FEW), drawn(rng, FEW, 25)
    share = rng.dirichlet(np.ones(len(FEW)), 60)
    summary = summarize(few, FEW) | imbalance_summary(few, FEW, [90, 40, 9, 3], share)
    summary["open_set"] = open_set_report(few, other, [f"other/{i}.mp4" for i in range(25)], 0.9)
    paths = {"few": (write(folder, "few", FEW, few, summary), FEW)}
    many = drawn(rng, MANY, 90, own=7)
    summary = summarize(many, MANY) | imbalance_summary(many, MANY, list(range(90, 0, -10)))
    summary["union"] = union_report(many.probabilities, many.label, 7, many.valid)
    matches = [{"a_name": "Class 1", "b_name": "class 1", "kind": "equal"}]
    summary["overlap"] = accuracy_without(many.probabilities, many.label, [1], many.valid) | {"names": matches}
    summary["halves"] = half_class_accuracy(many.probabilities[:, None, :7], many.label, many.valid)
    columns = half_predictions(many, summary["halves"]["per_subset"], MANY)
    return paths | {"many": (write(folder, "many", MANY, many, summary, columns), MANY)}


def leaves(value: Any, where: tuple = ()) -> Iterator[tuple]:
    """Paths of all leaves of a JSON document, and of all that holds leaves."""
    if where:
        yield where
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from leaves(item, (*where, key))


def changed(document: Any, where: tuple, new: Any) -> Any:
    again = copy.deepcopy(document)
    part = again
    for key in where[:-1]:
        part = part[key]
    if new is MISSING:
        del part[where[-1]]
    else:
        part[where[-1]] = new
    return again


def at(document: Any, where: tuple) -> Any:
    for key in where:
        document = document[key]
    return document


UNCHECKED = {
    "few": ["training_counts.calm", "extra_knowledge.attention.given", "open_set.accept", "open_set.auroc"],
    "many": ["training_counts.class 0", "extra_knowledge.probability.given", "halves.per_subset.top5_correct"],
}


@pytest.mark.parametrize("kind", ["few", "many"])
def test_what_was_written_is_found_again_and_what_is_open_is_named(results, kind):
    path, classes = results[kind]
    result, rows = json.loads(path.read_text()), read_table(path.with_suffix(".csv"))
    assert differences(result, rows, classes) == differences(result, rows) == []
    left = recount(result, rows, classes).undetermined
    assert {*left} >= {*UNCHECKED[kind]}
    checked = {"macro_f1", "calibration", "classes", "groups.head", "mean_class_recall_interval", "confusion_matrix"}
    assert not any(key.startswith(one) for key in left for one in checked)
    assert "confusion_matrix" in recount(result, rows).undetermined  # without the order of the classes


@pytest.mark.parametrize("kind", ["few", "many"])
def test_every_number_is_either_checked_or_named(results, kind):
    """Numbers of every kind are moved by a little: that is a difference, or the key is named as not checked."""
    path, classes = results[kind]
    result, rows = json.loads(path.read_text()), read_table(path.with_suffix(".csv"))
    left, kinds = recount(result, rows, classes).undetermined, {}
    own = {key: value for key, value in result.items() if key not in ("provenance", "task", "warnings")}
    for where in leaves(own):
        if type(at(result, where)) in (int, float):
            kinds.setdefault(tuple(part for part in where if isinstance(part, str)), []).append(where)
    seen = 0
    for where in (places[len(places) // 2] for places in kinds.values()):
        value = at(result, where)
        new = value + 1 if isinstance(value, int) else value * 1.001 + 1e-4
        key = ".".join(part for part in where if isinstance(part, str))
        found = differences(changed(result, where, new), rows, classes)
        assert found or any(key == one or key.startswith(f"{one}.") for one in left), (where, value)
        seen += bool(found)
    assert seen > 40


def test_a_probability_on_the_edge_of_a_bin_is_no_difference():
    labels = np.array([0, 1] * 6)
    p = np.array([1 / 3, 0.2, 0.4, 0.6, 0.8, 2 / 3] * 2)
    probabilities = np.stack([p, np.minimum(p, 1 - p) * 0.5, 1 - p - np.minimum(p, 1 - p) * 0.5], axis=1)
    scores = Scores(np.arange(12), labels, probabilities, np.ones(12, dtype=bool))
    result = json.loads(json.dumps(summarize(scores, ["a", "b", "c"]) | {"undecodable": []}))
    ranked = np.argsort(-probabilities, axis=1, kind="stable")
    rows = []
    for n, order in enumerate(ranked):
        best = {f"top{k + 1}": "abc"[c] for k, c in enumerate(order)}
        best |= {f"top{k + 1}_probability": f"{probabilities[n, c]:.9g}" for k, c in enumerate(order)}
        first = {"predicted": "abc"[order[0]], "correct": str(int(order[0] == labels[n])), "valid": "1"}
        rows.append(
            {"path": str(n), "label": "abc"[labels[n]], "probability": best["top1_probability"], **first, **best}
        )
    assert differences(result, rows, ["a", "b", "c"]) == []
    result["calibration"]["ece"] += 0.01
    found, open_ = recount(result, rows, ["a", "b", "c"])
    assert found or any(key.startswith("calibration") for key in open_)


WRONG = (MISSING, None, True, "x", "", -1, 0.5, 1e308, [], [None], {}, {"class": 1}, 10**30)


@pytest.mark.parametrize("kind", ["few", "many"])
def test_a_changed_missing_or_mistyped_leaf_is_an_error_of_ours_or_a_report(results, kind, tmp_path, monkeypatch):
    """Some leaves of every part (the slow test takes more), each in a wrong way, through --verify and compare."""
    path, _ = results[kind]
    document = json.loads(path.read_text())
    target = tmp_path / path.name
    target.with_suffix(".csv").write_bytes(path.with_suffix(".csv").read_bytes())
    heads = [where for where in leaves(document) if len(where) < 2]
    for number, where in enumerate([*heads, *list(leaves(document))[::29]]):
        check_ends(target, changed(document, where, WRONG[number % len(WRONG)]), path)


def check_ends(target: Path, document: Any, other: Path) -> None:
    target.write_text(json.dumps(document))
    try:
        for check in verify_result(target):
            assert isinstance(check.difference, str) and "\n" not in check.what
    except ResultError as error:
        assert "\n" not in str(error)
    try:
        a, b = read_result(other), read_result(target)
        comparison_table(compare(a.document, b.document, a.predictions, b.predictions))
        compare_knowledge(a.document, b.document)
    except ResultError as error:
        assert "\n" not in str(error)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=4,
)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["few", "many"])
def test_any_change_of_the_document_or_the_table_ends_in_a_report(results, kind, tmp_path_factory):
    path, _ = results[kind]
    document, folder = json.loads(path.read_text()), tmp_path_factory.mktemp("fuzz")
    places, table = list(leaves(document)), path.with_suffix(".csv").read_text()
    lines = [line.split(",") for line in table.splitlines()]
    cells = st.text(max_size=6) | st.sampled_from(["", "0", "1", "nan", "inf", "-1", "1e999", '"', "a,b", *MANY])

    @settings(max_examples=5000, deadline=None)
    @given(
        st.lists(st.tuples(st.sampled_from(places), st.just(MISSING) | json_values), max_size=2),
        st.lists(st.tuples(st.integers(0, len(lines) - 1), st.integers(0, len(lines[0]) - 1), cells), max_size=2),
        st.booleans(),
    )
    def run(changes, edits, hashed):
        again, rows = document, [list(line) for line in lines]
        for where, new in changes:
            with suppress(KeyError, IndexError, TypeError, AttributeError):  # the first change took its place away
                again = changed(again, where, new)
        for row, column, cell in edits:
            rows[row][column] = cell
        if not hashed:  # an older result, whose table has no hash
            again = copy.deepcopy(again)
            with suppress(KeyError, TypeError):
                del again["provenance"]["hashes"]["predictions"]
        target = folder / "x.json"
        text = "\n".join(",".join(line) for line in rows) + "\n"
        target.with_suffix(".csv").write_bytes(text.encode("utf-8", "surrogatepass"))
        check_ends(target, again, path)

    run()

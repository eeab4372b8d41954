"""Result files that are damaged, mixed up or of a run directory."""

import csv
import hashlib
import json

import pytest

from mote.metrics.compare import read_result
from mote.metrics.result_files import ResultError, check_table, read_document, read_table, table_path

TABLE = "path,label,predicted,correct,valid,probability\na.mp4,x,x,1,1,0.5\nb.mp4,x,,0,0,\n"


def test_a_document_that_is_not_there_is_not_called_damaged(tmp_path):
    with pytest.raises(ResultError, match=r"x\.json: no such file; a result is NAME\.json"):
        read_document(tmp_path / "x.json")
    with pytest.raises(ResultError, match=r"is a folder; name a result in it, such as metrics\.json"):
        read_document(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "the JSON is damaged"),
        ("[1]", "expected a JSON object, got list"),
        ('{"a": NaN}', "NaN is no JSON"),
        ('{"a": -Infinity}', "-Infinity is no JSON"),
        ("[" * 100_000, "the JSON is damaged"),
        ('{"a": ' + "9" * 5000 + "}", "the JSON is damaged"),
    ],
)
def test_a_document_is_an_object_or_an_error(tmp_path, text, message):
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(ResultError, match=message) as error:
        read_document(tmp_path / "x.json")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("probability\n", "valid\n", "the column valid is there twice"),
        (",0.5", ",nan", r"x\.csv:2: damaged line"),
        (",0.5", ",2", r"x\.csv:2: damaged line"),
        (",0.5", ",", r"x\.csv:2: damaged line"),
        (",0.5", ",0.5,1", r"x\.csv:2: damaged line"),
        ("a.mp4", "a" * 200_000, "damaged line"),
    ],
)
def test_a_table_is_whole_or_an_error(tmp_path, old, new, message):
    (tmp_path / "x.csv").write_text(TABLE)
    assert [row["path"] for row in read_table(tmp_path / "x.csv")] == ["a.mp4", "b.mp4"]
    (tmp_path / "x.csv").write_text(TABLE.replace(old, new))
    limit = csv.field_size_limit()
    try:
        for others in (limit, 2**31 - 1):  # the limit is of the whole process; readers of landmarks raise it
            csv.field_size_limit(others)
            with pytest.raises(ResultError, match=message):
                read_table(tmp_path / "x.csv")
    finally:
        csv.field_size_limit(limit)


def test_a_table_of_another_result_is_refused(tmp_path):
    (tmp_path / "x.csv").write_text(TABLE)
    stated = {"provenance": {"hashes": {"predictions": hashlib.sha256(TABLE.encode()).hexdigest()}}}
    for document in (stated, {"provenance": 1}, {}):
        check_table(tmp_path / "x.csv", document)
    (tmp_path / "x.csv").write_text(TABLE.replace("a.mp4", "c.mp4"))  # of the same counts
    with pytest.raises(ResultError, match=r"x\.csv: not the table of this result"):
        check_table(tmp_path / "x.csv", stated)


def test_metrics_of_a_run_find_their_table(tmp_path):
    document = {"task": "eval", "listed": 2, "scored": 1, "top1_correct": 1}
    (tmp_path / "metrics.json").write_text(json.dumps(document))
    (tmp_path / "evaluations").mkdir()
    (tmp_path / "evaluations/eval.csv").write_text(TABLE)  # where runs of earlier versions have it
    assert read_result(tmp_path / "metrics.json").predictions.file == tmp_path / "evaluations/eval.csv"
    (tmp_path / "metrics.csv").write_text(TABLE.replace("a.mp4", "c.mp4"))
    assert read_result(tmp_path / "metrics.json").predictions.paths == ("c.mp4", "b.mp4")
    assert table_path(tmp_path / "x/metrics.json", {"task": "../y"}) == tmp_path / "x/metrics.csv"

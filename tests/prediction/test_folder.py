"""What a folder of predictions refuses, and what it remembers."""

import json
import os
from pathlib import Path

import pyarrow as pa
import pytest
from stand_in_predictions import plan, predictions_of

from mote.files.temporary import temporary_name
from mote.prediction.folder import OtherSettingsError, differences, open_folder, recorded_inputs, stored_plan
from mote.prediction.parts import PartError, as_text
from mote.prediction.write import write_parts


def refused(out: Path, kind: type[Exception] = OtherSettingsError, **changes) -> str:
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} if out.is_dir() else None
    with pytest.raises(kind) as error:
        write_parts(lambda _: pytest.fail("predicted"), ["/a"], out, plan(**changes))
    assert before is None or before == {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    assert "\n" not in str(error.value) and str(out) in str(error.value)
    return str(error.value)


def test_what_differs_is_said(tmp_path):
    write_parts(predictions_of, ["/a"], tmp_path / "out", plan(settings={"hashes": {"weights": "a" * 64}, "clips": 1}))
    out, same = tmp_path / "out", {"hashes": {"weights": "a" * 64}, "clips": 1}
    assert "hashes.weights was aaaaaaaaaaaa..., now bbbbbbbbbbbb...;" in refused(
        out, settings={**same, "hashes": {"weights": "b" * 64}}
    )
    assert "clips was 1, now 4;" in refused(out, settings={**same, "clips": 4})
    assert "threshold was null, now 0.5;" in refused(out, settings={**same, "threshold": 0.5})
    assert "top was null, now 5;" in refused(out, settings=same, top=5)
    assert "timed was false, now true" in refused(out, settings=same, timed=True)
    assert "class 3 was 'blue ball', now 'ball'" in refused(
        out, settings=same, class_names=[*stored_plan(out).class_names[:3], "ball"]
    )
    assert "in another order" in refused(out, settings=same, class_names=stored_plan(out).class_names[::-1])
    many = refused(out, settings={**same, **{f"k{i}": i for i in range(8)}})
    assert "k4 was null, now 4 and 3 more; choose another folder" in many
    open_folder(out, plan(settings={"clips": 1, "hashes": {"weights": "a" * 64}}))  # in another order


def test_names_that_only_look_the_same_differ():
    assert differences({"class_names": ["é"]}, {"class_names": ["e\u0301"]}) == [
        'class_names was ["é"], now ["e\u0301"]'
    ]
    assert differences({"a": {"b": [1]}, "c": 1}, {"a": {"b": [1]}, "c": 1}) == []


def test_a_folder_of_something_else(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    assert "it holds notes.txt" in refused(tmp_path, FileExistsError)
    (tmp_path / "settings.json").write_text('{"theme": "dark"}')
    assert "not the settings of predictions" in refused(tmp_path, PartError)
    (tmp_path / "settings.json").write_text('{"format": ')
    assert "damaged" in refused(tmp_path, PartError)
    (tmp_path / "settings.json").write_text(json.dumps({"format": "mote predictions 1"}))
    with pytest.raises(PartError, match="damaged"):
        stored_plan(tmp_path)
    assert "is a file" in refused(tmp_path / "notes.txt", NotADirectoryError)
    with pytest.raises(PartError, match="no folder of predictions"):
        stored_plan(tmp_path / "nothing")


def test_an_empty_folder_and_one_with_what_a_killed_process_left(tmp_path):
    temporary_name(tmp_path / "settings.json").touch()
    write_parts(predictions_of, ["/a"], tmp_path, plan())
    assert stored_plan(tmp_path) == plan() or stored_plan(tmp_path).document == plan().document


def test_lists_grow_and_keep_their_order(tmp_path):
    for names in (["/c", "/a"], ["/a", "/b", "/c"], ["/b"], [os.fsdecode(b"/\xff"), "/a"]):
        write_parts(predictions_of, names, tmp_path, plan())
    assert recorded_inputs(tmp_path).to_pylist() == ["/c", "/a", "/b", as_text(os.fsdecode(b"/\xff"))]
    assert len(list(tmp_path.glob("inputs-*.parquet"))) == 3


def test_relative_names_of_another_folder_are_refused(tmp_path, monkeypatch):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "one")
    write_parts(predictions_of, ["a.mp4"], tmp_path / "out", plan())
    monkeypatch.chdir(tmp_path / "two")
    with pytest.raises(ValueError, match=r"the relative names in it start at .*one; run there, or give absolute paths"):
        write_parts(predictions_of, ["a.mp4"], tmp_path / "out", plan())
    write_parts(predictions_of, ["/a.mp4", "s3://bucket/a.mp4"], tmp_path / "out", plan())
    (tmp_path / "moved").mkdir()
    for name in ("one", "out"):  # together: still the same files
        (tmp_path / name).rename(tmp_path / "moved" / name)
    monkeypatch.chdir(tmp_path / "moved" / "one")
    assert write_parts(predictions_of, ["a.mp4"], "../out", plan()).now == 0


def test_a_damaged_list_is_named(tmp_path):
    write_parts(predictions_of, ["/a"], tmp_path, plan())
    (file,) = tmp_path.glob("inputs-*.parquet")
    file.write_bytes(file.read_bytes()[:-9])
    assert f"{file.name}: damaged" in refused(tmp_path, PartError)
    table = pa.table({"other": ["/a"]})
    pa.parquet.write_table(table, file)
    assert "damaged" in refused(tmp_path, PartError)

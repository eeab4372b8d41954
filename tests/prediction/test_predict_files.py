"""Predictions of files: what is written of them, both files or neither."""

import csv
import json
from pathlib import Path

import pytest
import torch

from mote.files.writing import WritingError
from mote.prediction import predict as module
from mote.prediction.predict import Request, predict


class Named:
    """A model that calls everything by one name."""

    kind, classes, meta, device, source = "image", ["a", "b"], {}, torch.device("cpu"), None

    def __init__(self, score: float):
        self.score = score

    def chosen(self, class_names):
        return self.classes

    def corrected(self, settings, class_names):
        return self

    def hashes(self, class_names):
        return {}

    def outcomes(self, files, class_names, views, **options):
        return ((file, {"a": self.score, "b": 1 - self.score}) for file in files)


def files(csv_file: Path, json_file: Path) -> tuple[str, float]:
    with csv_file.open() as file:
        (row,) = csv.DictReader(file)
    return row["a"], json.loads(json_file.read_text())["images"][0]["scores"]["a"]


@pytest.fixture
def picture(tmp_path) -> str:
    (tmp_path / "x.png").touch()
    return str(tmp_path / "x.png")


def test_table_and_document_are_of_one_prediction(picture, tmp_path, monkeypatch):
    table, document = tmp_path / "out.csv", tmp_path / "out.json"
    request = {"model": "m", "places": [picture], "csv_file": str(table)}
    monkeypatch.setattr(module, "load", lambda *_args, **_options: Named(0.75))
    assert predict(Request(**request, json_file=str(document)), [picture]) == 0
    assert files(table, document) == ("0.750000", 0.75)
    monkeypatch.setattr(module, "load", lambda *_args, **_options: Named(0.5))
    with pytest.raises(WritingError, match=r"out\.csv and .*x\.png/out\.json: cannot be written"):
        predict(Request(**request, json_file=f"{picture}/out.json"), [picture])
    assert files(table, document) == ("0.750000", 0.75)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.csv", "out.json", "x.png"]


def test_one_file_for_both_and_a_folder_are_refused_before_the_model_is_loaded(picture, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "load", lambda *_args, **_options: pytest.fail("loaded"))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="a: --csv and --json name the same file; give each its own"):
        predict(Request("m", [picture], csv_file="a", json_file=str(tmp_path / "a")))
    with pytest.raises(ValueError, match="is a folder; --csv and --json take the name of a file"):
        predict(Request("m", [picture], json_file=str(tmp_path)))

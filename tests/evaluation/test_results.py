"""Result files: what is written is what was measured, whole or not at all."""

import csv
import hashlib
import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from mote.evaluation import results
from mote.files import hashes, provenance
from mote.files.locking import InUseError
from mote.files.tensor_hashes import sha256_tensors
from mote.files.writing import WritingError
from mote.metrics.scores import Scores, summarize
from mote.parallel.accelerator import make_accelerator

CLASSES = ["wave, twice", 'say "hi"', "läuft"]
RECORDS = [(Path("a b.mp4"), 0), (Path("c,d.mp4"), 1), (Path("broken.mp4"), 2), ("ü.mp4", 2)]
PROBABILITIES = np.array([[0.7, 0.2, 0.1], [0.5, 0.3, 0.2], [0.0, 0.0, 0.0], [0.1, 0.2, 0.7]])


@pytest.fixture
def scores():
    labels = np.array([label for _, label in RECORDS])
    return Scores(np.arange(4), labels, PROBABILITIES, np.array([True, True, False, True]))


def write(folder, scores, *, name="seen", **changes):
    made = provenance.provenance(config={"seed": 3, "temperatures": (0.6, math.inf)}, hashes={"manifest": "00"}, seed=3)
    arguments = {"records": RECORDS, "classes": CLASSES, "scores": scores, "provenance": made, **changes}
    return results.write_results(folder, name, arguments.pop("summary", summarize(scores, CLASSES)), **arguments)


def test_json_round_trip(tmp_path, scores):
    json_path, _ = write(tmp_path / "new" / "folder", scores)
    read = json.loads(json_path.read_text(encoding="utf-8"), parse_constant=lambda text: pytest.fail(text))
    for key, value in summarize(scores, CLASSES).items():
        assert read[key] == value, key
    assert (read["task"], read["undecodable"], read["top1"]) == ("seen", ["broken.mp4"], 0.5)
    source = read["provenance"]
    assert source["config"] == {"seed": 3, "temperatures": [0.6, "inf"]}
    assert source["versions"]["numpy"] == np.__version__
    assert set(source["versions"]) == {
        "python",
        "mote",
        "torch",
        "open_clip",
        "accelerate",
        "decord",
        "av",
        "numpy",
        "scikit_learn",
    }
    assert source["date"].endswith("+00:00")


def test_lists_of_numbers_stay_on_one_line_and_strings_untouched(tmp_path, scores):
    odd = "[\n  1,\n  2\n]"
    path, _ = write(tmp_path, scores, summary={**summarize(scores, CLASSES), "note": odd, "empty": []})
    text = path.read_text()
    assert "[1, 0, 0]" in text
    assert json.loads(text)["note"] == odd
    assert json.loads(text)["empty"] == []


def test_csv_round_trip(tmp_path, scores):
    _, csv_path = write(tmp_path, scores)
    with open(csv_path, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["path"] for row in rows] == [str(path) for path, _ in RECORDS]
    assert [row["label"] for row in rows] == [CLASSES[label] for _, label in RECORDS]
    assert [row["predicted"] for row in rows] == [CLASSES[0], CLASSES[0], "", CLASSES[2]]
    assert [row["correct"] for row in rows] == ["1", "0", "0", "1"]
    assert [row["valid"] for row in rows] == ["1", "1", "0", "1"]
    assert float(rows[1]["probability"]) == 0.5
    assert [rows[3][f"top{i}"] for i in (1, 2, 3)] == [CLASSES[2], CLASSES[1], CLASSES[0]]
    assert [float(rows[3][f"top{i}_probability"]) for i in (1, 2, 3)] == [0.7, 0.2, 0.1]
    assert set(rows[2].values()) == {"broken.mp4", CLASSES[2], "0", ""}


def test_paths_that_are_not_utf8_keep_their_bytes(tmp_path, scores):
    name = b"caf\xe9.mp4".decode("utf-8", "surrogateescape")
    records = [*RECORDS[:3], (name, 2)]
    json_path, csv_path = write(tmp_path, scores, records=records)
    assert b"caf\xe9.mp4" in csv_path.read_bytes()
    json.loads(json_path.read_text(encoding="utf-8"))


def test_nan_is_refused_by_name_and_leaves_the_old_file(tmp_path, scores):
    json_path, _ = write(tmp_path, scores)
    before = json_path.read_bytes()
    with pytest.raises(ValueError, match=r"result\.provenance\.config\.lr\[1\] is NaN"):
        write(tmp_path, scores, provenance=provenance.provenance(config={"lr": [1.0, math.nan]}, hashes={}, seed=0))
    with pytest.raises(ValueError, match=r"result\.top1 is a complex"):
        write(tmp_path, scores, summary={"top1": 1j})
    assert json_path.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["seen.csv", "seen.json"]


def test_an_older_page_goes_with_its_numbers_and_nothing_else(tmp_path, scores):
    write(tmp_path, scores)
    (tmp_path / "seen").mkdir()
    for name in ("index.html", "confusion.svg", "confused.csv", "notes.txt"):
        (tmp_path / "seen" / name).touch()
    with pytest.raises(ValueError, match="is NaN"):
        write(tmp_path, scores, summary={"top1": math.nan})
    assert (tmp_path / "seen" / "index.html").is_file()
    write(tmp_path, scores)
    assert [path.name for path in (tmp_path / "seen").iterdir()] == ["notes.txt"]


@pytest.mark.parametrize("file", ["seen.csv", "seen.json"])
def test_a_full_disk_leaves_both_files_as_they_were(tmp_path, scores, monkeypatch, file):
    write(tmp_path, scores)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    real = Path.write_bytes

    def full(path, data):
        if path.name == file:
            real(path, data[: len(data) // 2])
            raise OSError(28, "No space left on device", str(path))
        return real(path, data)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(WritingError, match="cannot be written: No space left on device; what was there before"):
        write(tmp_path, scores, summary=summarize(scores, CLASSES) | {"note": "new"})
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_one_launch_at_a_time_works_on_a_result(tmp_path, scores):
    code = """
import sys
from pathlib import Path
from mote.files.locking import locked
from mote.files.temporary import lock_name
with locked(Path(sys.argv[1]) / lock_name("seen"), "seen"):
    print("held", flush=True)
    sys.stdin.readline()
"""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", code, tmp_path], text=True, **pipes) as other:
        assert other.stdout is not None and other.stdout.readline() == "held\n"
        accelerator = make_accelerator(cpu=True)
        for attempt in (lambda: write(tmp_path, scores), lambda: working(accelerator, tmp_path, "seen")):
            with pytest.raises(InUseError, match=rf"seen\.json: in use by process {other.pid} on "):
                attempt()
        write(tmp_path, scores, name="another")
        other.communicate("\n")
    with results.working_on(accelerator, tmp_path, "seen"):
        write(tmp_path, scores)
    assert len(list(tmp_path.iterdir())) == 4


def working(accelerator, folder, name):
    with results.working_on(accelerator, folder, name):
        pass


def test_parts_that_do_not_fit_are_refused(tmp_path, scores):
    with pytest.raises(ValueError, match="labels of records and scores differ"):
        write(tmp_path, scores, records=RECORDS[::-1])
    with pytest.raises(ValueError, match="labels of records and scores differ"):
        write(tmp_path, scores, records=RECORDS[:3])
    with pytest.raises(ValueError, match="provenance lacks hashes, versions, date"):
        write(tmp_path, scores, provenance={"config": {}, "seed": 0})
    with pytest.raises(ValueError, match="plain file name"):
        write(tmp_path, scores, name="../seen")
    assert not list(tmp_path.iterdir())


def test_sha256(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"abc")
    # FIPS 180-2, example B.1
    assert hashes.sha256_file(path) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    path.write_bytes("a\nü\n".encode())
    assert hashes.sha256_lines(["a", "ü"]) == hashes.sha256_file(path)
    assert hashes.sha256_lines([]) == hashlib.sha256(b"").hexdigest()


def test_sha256_of_tensors_sees_names_types_shapes_and_values():
    base = {"a": torch.zeros(2, 2), "b": torch.ones(1, dtype=torch.bfloat16)}
    same = {"b": base["b"].clone(), "a": torch.zeros(2, 4)[:, ::2]}  # other order, other strides
    assert sha256_tensors(same) == sha256_tensors(base)
    others = [
        {**base, "a": torch.zeros(4)},
        {**base, "a": torch.zeros(2, 2, dtype=torch.int32)},
        {**base, "b": 2 * base["b"]},
        {"c": base["a"], "b": base["b"]},
    ]
    digests = {sha256_tensors(tensors) for tensors in [base, *others]}
    assert len(digests) == 5
    assert len(sha256_tensors({"scalar": torch.tensor(1.0), "empty": torch.zeros(0)})) == 64
    cut = {"cut": torch.ones(1, 4)[:, 0]}  # one number, four apart
    assert sha256_tensors(cut) == sha256_tensors({"cut": torch.ones(1)})


def test_a_package_that_is_not_installed_is_null(monkeypatch):
    monkeypatch.setitem(provenance.PACKAGES, "decord", "no-such-distribution")
    assert provenance.versions()["decord"] is None

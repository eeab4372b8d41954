"""Expression datasets from look-alikes of their official layouts: what is written, and what each broken one says."""

import csv
import json
import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from face_layouts import EMOTIONS, FER_VOTES, MAKERS, image, pixels, write
from PIL import Image

from mote.datasets.lists.images import read_images
from mote.datasets.lists.manifest import ManifestError, manifest_classes, read_class_names
from mote.datasets.prepare.expression_lists import FaceOptions, prepare_faces, summary


def run(root: Path, keywords: dict, **more) -> dict:
    given = {"labels": root / "L", "out": root / "out", **keywords, **more}
    options = {name: given.pop(name) for name in FaceOptions._fields if name in given}
    return prepare_faces(**given, options=FaceOptions(**options))


def rows(root: Path, name: str = "faces.csv", out: str = "out") -> list[dict[str, str]]:
    with (root / out / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def part(root: Path, split: str, name: str = "faces.csv", out: str = "out") -> dict[str, str]:
    """Path -> class name of one split of a written list."""
    return {row["path"]: row["label"] for row in rows(root, name, out) if row["split"] == split}


def replace(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


def test_rafdb_binds_numbers_by_the_order_of_its_own_list(tmp_path):
    report = run(tmp_path, MAKERS["rafdb"](tmp_path))
    lines = (tmp_path / "L/EmoLabel/list_patition_label.txt").read_text().split("\n")
    expected = {line.split(".")[0] + "_aligned.jpg": EMOTIONS[int(line.split()[1]) - 1] for line in lines if line}
    written = {row["path"]: row["label"] for row in rows(tmp_path)}
    assert written == expected and report["classes"] == list(EMOTIONS)
    assert {Path(path).name.split("_")[0] for path in part(tmp_path, "test")} == {"test"}
    assert Counter(part(tmp_path, "val").values()) == {name: n for n, name in enumerate(EMOTIONS, 1)}  # a tenth
    assert report["lists"]["train"]["imbalance"] == 7 and report["lists"]["test"]["imbalance"] == 1
    assert report["validation"] == {"fraction": 0.1, "seed": 0} and report["duplicates"] == []
    assert json.loads((tmp_path / "out/report.json").read_text()) == report
    assert "train: 252 files, 9 to 63 per class, imbalance 7.00" in summary(report)


def test_what_is_written_is_read_by_the_image_reader(tmp_path):
    keywords = MAKERS["rafdb"](tmp_path)
    run(tmp_path, keywords)
    names = read_class_names(tmp_path / "out/classes.csv")
    test = read_images(tmp_path / "out/faces.csv", keywords["files"], names, "test")
    assert len(test.records) == 14 and [record.label for record in test.records] == [n // 2 for n in range(14)]
    assert all(record.path.is_file() for record in test.records)
    assert manifest_classes(tmp_path / "out/faces.csv") == sorted(EMOTIONS)


def test_the_validation_part_depends_on_the_seed_alone_and_can_be_left_out(tmp_path):
    keywords = MAKERS["rafdb"](tmp_path)
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        run(tmp_path, keywords, out=tmp_path / name, seed=seed)
    assert part(tmp_path, "val", out="a") == part(tmp_path, "val", out="b") != part(tmp_path, "val", out="c")
    report = run(tmp_path, keywords, out=tmp_path / "d", validation=0.0)
    assert list(report["lists"]) == ["train", "test"] and report["validation"] is None
    assert "there is no validation part; nothing must be chosen on the test part" in summary(report)
    with pytest.raises(ValueError, match=r"share of validation in \[0, 1\), got 1"):
        run(tmp_path, keywords, out=tmp_path / "e", validation=1.0)


def test_images_of_equal_content_are_reported_across_parts_and_not_parted_by_the_draw(tmp_path):
    keywords = MAKERS["rafdb"](tmp_path)
    files = sorted((tmp_path / "F/aligned").iterdir())
    training = [file for file in files if file.name.startswith("train")]
    label = (tmp_path / "L/EmoLabel/list_patition_label.txt").read_text().split("\n")
    sevens = [line.split(".")[0] for line in label if line.startswith("train") and line.endswith("7")]
    for stem in sevens[1::2]:  # pairs of equal images
        (tmp_path / f"F/aligned/{stem}_aligned.jpg").write_bytes(
            (tmp_path / f"F/aligned/{sevens[sevens.index(stem) - 1]}_aligned.jpg").read_bytes()
        )
    tested = next(file for file in files if file.name.startswith("test"))
    tested.write_bytes(training[0].read_bytes())
    report = run(tmp_path, keywords)
    side = {row["path"]: row["split"] for row in rows(tmp_path)}
    for one, two in zip(sevens[::2], sevens[1::2], strict=True):
        assert side[f"{one}_aligned.jpg"] == side[f"{two}_aligned.jpg"]
    pair = {"of": "test", "files": 1, "examples": [(training[0].name, tested.name)]}
    assert [{**row, "and": 0} for row in report["duplicates"]] == [{**pair, "and": 0}]
    assert report["duplicates"][0]["and"] == side[training[0].name]
    assert "1 of test are also in" in summary(report)


def test_rafdb_in_numbered_folders(tmp_path):
    run(tmp_path, MAKERS["rafdb_folders"](tmp_path))
    assert part(tmp_path, "test") == {f"test/{n}/test_{n}0_aligned.jpg": EMOTIONS[n - 1] for n in range(1, 8)}


def test_fer2013_pixels_become_images_and_its_public_test_part_validates(tmp_path):
    report = run(tmp_path, MAKERS["fer2013"](tmp_path))
    assert {name: one["files"] for name, one in report["lists"].items()} == {"train": 28, "val": 28, "test": 28}
    assert report["validation"] is None
    order = ("anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral")
    for number, row in enumerate(rows(tmp_path)):
        assert row["path"] == f"images/fer{number:07d}.png" and row["label"] == order[number % 28 // 4]
        with Image.open(tmp_path / "out" / row["path"]) as picture:
            assert picture.mode == "L" and picture.size == (48, 48)
            assert np.asarray(picture).ravel().tolist() == [int(value) for value in pixels(number).split()]
    assert len(read_images(tmp_path / "out/faces.csv", classes=report["classes"], split="val").records) == 28


def test_fer2013_in_folders(tmp_path):
    report = run(tmp_path, MAKERS["fer2013_folders"](tmp_path))
    assert part(tmp_path, "test")["test/happy/test30.jpg"] == "happiness"
    assert report["lists"]["train"]["per_class"] == dict.fromkeys(report["classes"], 3)
    assert report["lists"]["val"]["files"] == 7


@pytest.mark.parametrize("rule", ["argmax", "emotions", "unique", "majority"])
def test_the_vote_rules_of_ferplus(tmp_path, rule):
    keywords = MAKERS["ferplus"](tmp_path)
    column = 1 + ("argmax", "emotions", "unique", "majority").index(rule)
    report = run(tmp_path, keywords, votes=rule)
    for first, split in ((0, "train"), (8, "val"), (16, "test")):
        expected = {
            f"images/fer{first + n:07d}.png": row[column] for n, row in enumerate(FER_VOTES) if row[column] is not None
        }
        assert part(tmp_path, split) == expected
    lost = 3 * sum(row[column] is None for row in FER_VOTES)
    assert report["notes"] == [f"votes {rule}: left out {lost} images, and 1 without a name"]


def test_ferplus_takes_argmax_by_default_drops_classes_and_finds_images_instead_of_pixels(tmp_path):
    keywords = MAKERS["ferplus"](tmp_path)
    run(tmp_path, keywords)
    run(tmp_path, keywords, votes="argmax", out=tmp_path / "b")
    assert rows(tmp_path) == rows(tmp_path, out="b")
    report = run(tmp_path, keywords, drop=["contempt"], out=tmp_path / "c")
    assert len(report["classes"]) == 7 and "contempt" not in {row["label"] for row in rows(tmp_path, out="c")}
    (tmp_path / "L/fer2013.csv").unlink()
    for n in range(24):
        image(tmp_path / "F" / "FER2013Train" / f"fer{n:07d}.png", n)
    run(tmp_path, keywords, files=tmp_path / "F", out=tmp_path / "d")
    found = [(Path(row["path"]).name, row["label"]) for row in rows(tmp_path, out="d")]
    assert found == [(Path(row["path"]).name, row["label"]) for row in rows(tmp_path)]


@pytest.mark.parametrize("header", [True, False])
def test_affectnet_older_release(tmp_path, header):
    keywords = MAKERS["affectnet"](tmp_path)
    if not header:
        file = tmp_path / "L/training.csv"
        file.write_text("".join(file.read_text().splitlines(keepends=True)[1:]))
    report = run(tmp_path, keywords, validation=0.0)
    order = ("neutral", "happiness", "sadness", "surprise", "fear", "disgust", "anger", "contempt")
    assert part(tmp_path, "test") == {f"v/{n}.jpg": name for n, name in enumerate(order)}
    assert all(order[int(Path(path).name[0])] == name for path, name in part(tmp_path, "train").items())
    assert len(part(tmp_path, "train")) == 16
    assert report["notes"][0] == "train: left out 1 none, 2 uncertain, 1 no face"


def test_affectnet_newer_release(tmp_path):
    report = run(tmp_path, MAKERS["affectnet_npy"](tmp_path))
    assert part(tmp_path, "test")["val_set/images/601.jpg"] == "anger"
    assert report["lists"]["train"]["files"] == 16 and report["lists"]["val"]["files"] == 8


def test_ckplus_folds_share_no_subject(tmp_path):
    report = run(tmp_path, MAKERS["ckplus"](tmp_path))
    order = ("anger", "contempt", "disgust", "fear", "happiness", "sadness", "surprise")
    tested: list[str] = []
    for k in range(1, 11):
        sides = {split: part(tmp_path, split, f"fold{k}.csv") for split in ("train", "val", "test")}
        subjects = {split: {path.split("/")[0] for path in paths} for split, paths in sides.items()}
        assert not (subjects["train"] & subjects["test"] or subjects["train"] & subjects["val"])
        assert not subjects["val"] & subjects["test"] and len(set().union(*subjects.values())) == 11
        tested += sides["test"]
        for path, name in (pair for side in sides.values() for pair in side.items()):
            subject, sequence = int(path[1:4]), int(path[5:8])
            assert name == order[(subject + sequence) % 7] and sequence < 3
    assert len(tested) == len(set(tested)) == 21 * 3 + 2  # every frame is tested once; one sequence has but two
    assert report["validation"] is None and report["classes"] == list(order)


def test_dfew_folds_and_folders_of_frames(tmp_path):
    report = run(tmp_path, MAKERS["dfew"](tmp_path))
    order = ("happiness", "sadness", "neutral", "anger", "surprise", "disgust", "fear")
    for k in range(1, 6):
        test = part(tmp_path, "test", f"fold{k}.csv")
        expected = {n for n in range(1, 36) if n % 5 + 1 == k}
        assert {int(path[:5]) for path in test} == expected
        assert all(path.endswith(".mp4") == (int(path[:5]) % 2 == 0) for path in test)
        assert all(name == order[(int(path[:5]) - 1) // 5] for path, name in test.items())
        assert len(part(tmp_path, "train", f"fold{k}.csv")) == 21 and len(part(tmp_path, "val", f"fold{k}.csv")) == 7
    assert report["notes"] == ["18 clips are folders of frames"]


def test_ferv39k_keeps_equal_numbers_of_two_scenes_apart(tmp_path):
    report = run(tmp_path, MAKERS["ferv39k"](tmp_path))
    written = {row["path"]: row["label"] for row in rows(tmp_path)}
    assert len(written) == 7 * 24 and written["Action/Angry/0003"] == written["DailyLife/Angry/0003"] == "anger"
    assert report["lists"]["test"]["files"] == 14 and report["lists"]["val"]["per_class"]["fear"] == 2


def test_mafw_has_eleven_classes(tmp_path):
    report = run(tmp_path, MAKERS["mafw"](tmp_path))
    assert len(report["classes"]) == 11 and report["lists"]["test3"]["per_class"]["helplessness"] == 1
    assert part(tmp_path, "test", "fold2.csv")["00002.mp4"] == "anger"


def test_ones_own_folders_and_list(tmp_path):
    report = run(tmp_path, MAKERS["folders"](tmp_path))
    assert report["classes"] == ["bored", "happiness", "sadness"] and report["validation"] is None
    assert part(tmp_path, "val") == {
        "valid/Happy/0.png": "happiness", "valid/Sadness/0.png": "sadness", "valid/bored/0.png": "bored",
    }  # fmt: skip
    own = tmp_path / "own"
    report = run(own, MAKERS["csv"](own))
    assert report["classes"] == ["bored", "happiness"] and report["lists"]["val"]["files"] == 2
    assert part(own, "test")["test/bored1.png"] == "bored"
    for folder in ("joy", "rage"):
        image(tmp_path / "flat" / folder / "a.mp4", len(folder))
        image(tmp_path / "flat" / folder / "b.mp4", len(folder) + 5)
    report = run(tmp_path, {"layout": "folders"}, labels=tmp_path / "flat", out=tmp_path / "two")
    assert report["classes"] == ["joy", "rage"] and report["notes"] == ["there is no test part"]


def test_a_class_list_gives_the_order_and_must_name_every_class(tmp_path):
    keywords = MAKERS["rafdb"](tmp_path)
    order = ["Angry", "disgust", "fear", "Happy", "neutral", "sad", "surprise"]
    report = run(tmp_path, keywords, classes=order)
    assert report["classes"] == ["anger", "disgust", "fear", "happiness", "neutral", "sadness", "surprise"]
    assert read_class_names(tmp_path / "out/classes.csv") == report["classes"]
    for names, message in (
        (order[1:], "L: classes that are not in the class list: anger; add or drop them"),
        ([*order, "bored"], "class list: class 'bored' is none of surprise, fear"),
        ([*order, "happiness"], "class list: 8 names for 7 classes; one is there twice"),
    ):
        with pytest.raises(ManifestError) as caught:
            run(tmp_path, keywords, classes=names, out=tmp_path / "no")
        assert message in str(caught.value)
    assert run(tmp_path, keywords, classes=order[1:], drop=["anger"], out=tmp_path / "six")["classes"][0] == "disgust"


def test_missing_files_can_be_left_out_and_are_listed(tmp_path):
    keywords = MAKERS["rafdb"](tmp_path)
    (tmp_path / "F/aligned/train_00001_aligned.jpg").unlink()
    report = run(tmp_path, keywords, missing="list")
    assert report["missing"] == ["train_00001.jpg"] and report["lists"]["train"]["missing"] == 1
    assert rows(tmp_path, "missing.csv") == [{"path": "train_00001.jpg", "label": "surprise", "split": "train"}]
    assert "1 missing" in summary(report)


BROKEN = {  # layout: (what is broken, how, how the error begins; L and F stand for the folders)
    "rafdb": [
        ("list", lambda r: (r / "L/EmoLabel/list_patition_label.txt").unlink(),
         "L: it holds neither list_patition_label.txt nor train/1"),
        ("image", lambda r: (r / "F/aligned/test_0012_aligned.jpg").unlink(),
         "F/aligned: 1 of 294 files are missing: test_0012.jpg; complete them"),
        ("class", lambda r: replace(r / "L/EmoLabel/list_patition_label.txt", "00002.jpg 1", "00002.jpg 8"),
         "L/EmoLabel/list_patition_label.txt:2: label '8' is outside 1..7; they count from 1 (1 surprise to"),
        ("0-based", lambda r: replace(r / "L/EmoLabel/list_patition_label.txt", "00001.jpg 1", "00001.jpg 0"),
         "L/EmoLabel/list_patition_label.txt:1: label '0' is outside 1..7; they count from 1"),
        ("blank line", lambda r: replace(r / "L/EmoLabel/list_patition_label.txt", " 1\n", " 1\n\n"),
         "L/EmoLabel/list_patition_label.txt:2: blank line"),
        ("form", lambda r: replace(r / "L/EmoLabel/list_patition_label.txt", "train_00001.jpg 1", "train_00001.jpg"),
         "L/EmoLabel/list_patition_label.txt:1: expected `train_00001.jpg 5`, got 'train_00001.jpg'"),
        ("twice", lambda r: replace(r / "L/EmoLabel/list_patition_label.txt", "train_00002", "train_00001"),
         "files listed twice: train_00001_aligned.jpg (L/EmoLabel/list_patition_label.txt:1 and"),
        ("folder", lambda r: (r / "F/aligned").rename(r / "F/fear"), "F/aligned: there is no such folder"),
    ],
    "rafdb_folders": [
        ("0-based", lambda r: (r / "L/train/7").rename(r / "L/train/0"), "L/train/0: label '0' is outside 1..7;"),
        ("name", lambda r: (r / "L/train/7").rename(r / "L/train/joy"), "L/train/joy: label 'joy' is outside 1..7;"),
        ("empty", lambda r: [file.unlink() for file in (r / "L/test/3").iterdir()],
         "L/test/3: no file of this class"),
        ("part", lambda r: (r / "L/test").rename(r / "L/valid"), "L/test: there is no such folder"),
    ],
    "fer2013": [
        ("file", lambda r: (r / "L/fer2013.csv").unlink(), "L: missing split files: fer2013.csv"),
        ("1-based", lambda r: replace(r / "L/fer2013.csv", "\n6,", "\n7,"),
         "L/fer2013.csv:26: label '7' is outside 0..6; they count from 0 (0 anger to 6 neutral)"),
        ("blank line", lambda r: replace(r / "L/fer2013.csv", "Training\n", "Training\n\n"),
         "L/fer2013.csv:3: expected 3 cells (emotion,pixels,Usage), got a blank line"),
        ("pixels", lambda r: replace(r / "L/fer2013.csv", "\n0,0 0 ", "\n0,0 "),
         "L/fer2013.csv:2: expected 2304 pixels (48 x 48), got 2303"),
        ("value", lambda r: replace(r / "L/fer2013.csv", " 255 ", " 256 "),
         "L/fer2013.csv:2: expected pixels as numbers in 0..255"),
        ("part", lambda r: replace(r / "L/fer2013.csv", "Training", "Train"),
         "L/fer2013.csv:2: Usage 'Train'; expected Training, PublicTest, PrivateTest"),
        ("header", lambda r: replace(r / "L/fer2013.csv", "emotion", "label"),
         "L/fer2013.csv:1: the header lacks emotion"),
        ("empty", lambda r: (r / "L/fer2013.csv").write_text(""), "L/fer2013.csv: it is empty"),
        ("class", lambda r: replace(r / "L/fer2013.csv", "\n6,", "\nneutral,"),
         "L/fer2013.csv:26: label 'neutral' is outside 0..6; they count from 0"),
    ],
    "fer2013_folders": [
        ("class", lambda r: (r / "L/train/happy").rename(r / "L/train/joyful"),
         "L/train/joyful: class 'joyful' is none of anger, disgust"),
        ("part", lambda r: (r / "L/train").rename(r / "L/training"), "L: missing split files: fer2013.csv"),
        ("number", lambda r: (r / "L/test/happy").rename(r / "L/test/3"),
         "L/test/3: the folder is a number; rename it to the name of its class"),
        ("empty", lambda r: [file.unlink() for file in (r / "L/train/fear").iterdir()],
         "L/train/fear: no file of this class"),
    ],
    "ferplus": [
        ("file", lambda r: (r / "L/fer2013new.csv").unlink(), "L: missing split files: fer2013new.csv"),
        ("image", lambda r: (r / "L/fer2013.csv").unlink(), "L: 15 of 15 files are missing: fer0000000.png, "),
        ("class", lambda r: replace(r / "L/fer2013new.csv", "surprise", "astonishment"),
         "L/fer2013new.csv:1: the header lacks surprise"),
        ("blank line", lambda r: replace(r / "L/fer2013new.csv", "1,0\n", "1,0\n\n"),
         "L/fer2013new.csv:3: expected 12 cells (Usage,"),
        ("rows", lambda r: replace(r / "L/fer2013new.csv", "PrivateTest,,0,9,0,0,0,0,0,0,1,0\n", ""),
         "L/fer2013new.csv: 24 rows, but fer2013.csv has 25"),
        ("order", lambda r: replace(r / "L/fer2013new.csv", "\nTraining", "\nPublicTest"),
         "L/fer2013new.csv:2: Usage PublicTest, but Training in L/fer2013.csv:2: the rows do not match"),
        ("votes", lambda r: replace(r / "L/fer2013new.csv", ",9,", ",,"), "L/fer2013new.csv:2: expected the votes of"),
    ],
    "affectnet": [
        ("file", lambda r: (r / "L/validation.csv").unlink(), "L: missing split files: validation.csv"),
        ("image", lambda r: (r / "F/v/3.jpg").unlink(), "F: 1 of 24 files are missing: v/3.jpg;"),
        ("class", lambda r: replace(r / "L/training.csv", ",3,0.5", ",11,0.5"),
         "L/training.csv:5: label '11' is outside 0..10; they count from 0 (0 neutral to 10 no face)"),
        ("1-based", lambda r: [replace(r / "L/validation.csv", f",{n},0.5", f",{n + 1},0.5") for n in range(7, -1, -1)],
         "L: test has no label 0 (neutral); its labels count from 1, AffectNet's from 0"),
        ("blank line", lambda r: replace(r / "L/training.csv", "-2\n", "-2\n\n"),
         "L/training.csv:3: expected 9 cells (subDirectory_filePath,"),
        ("cells", lambda r: replace(r / "L/training.csv", ",0.5,-2", ",0.5"),
         "L/training.csv:2: expected 9 cells (subDirectory_filePath,"),
    ],
    "affectnet_npy": [
        ("folder", lambda r: (r / "L/val_set/annotations").rename(r / "L/val_set/labels"),
         "L: missing folders: val_set/annotations"),
        ("image", lambda r: (r / "L/val_set/images/601.jpg").unlink(),
         "L: 1 of 32 files are missing: val_set/images/601.jpg;"),
        ("class", lambda r: np.save(r / "L/val_set/annotations/601_exp.npy", np.array(11)),
         "L/val_set/annotations/601_exp.npy: label '11' is outside 0..10;"),
        ("1-based", lambda r: [np.save(file, np.array(int(np.load(file)) + 1))
                               for file in (r / "L/train_set/annotations").iterdir()],
         "L: train has no label 0 (neutral); its labels count from 1"),
        ("content", lambda r: (r / "L/val_set/annotations/601_exp.npy").write_bytes(b"6\n"),
         "L/val_set/annotations/601_exp.npy: expected one number in an .npy file"),
        ("empty", lambda r: (r / "L/val_set/annotations/601_exp.npy").write_bytes(b""),
         "L/val_set/annotations/601_exp.npy: expected one number in an .npy file"),
        ("0-based shift", lambda r: np.save(r / "L/val_set/annotations/601_exp.npy", np.array(-1)),
         "L/val_set/annotations/601_exp.npy: label '-1' is outside 0..10;"),
    ],
    "ckplus": [
        ("labels", lambda r: (r / "L/Emotion").rename(r / "L/Emotions"), "L: it holds no S005/001/"),
        ("image", lambda r: (r / "F/S003/001/S003_001_00000004.png").unlink(),
         "F: 1 of 65 files are missing: S003/001/S003_001_00000004.png;"),
        ("class", lambda r: write(r / "L/Emotion/S003/001/S003_001_00000005_emotion.txt", ["   8.0000000e+00"]),
         "L/Emotion/S003/001/S003_001_00000005_emotion.txt:1: label '8' is outside 1..7; they count from 1 (1 anger"),
        ("0-based", lambda r: write(r / "L/Emotion/S003/001/S003_001_00000005_emotion.txt", ["   0.0000000e+00"]),
         "L/Emotion/S003/001/S003_001_00000005_emotion.txt:1: label '0' is outside 1..7; they count from 1 (1 anger"),
        ("blank line", lambda r: write(r / "L/Emotion/S003/001/S003_001_00000005_emotion.txt", [""]),
         "L/Emotion/S003/001/S003_001_00000005_emotion.txt:1: blank line"),
        ("form", lambda r: write(r / "L/Emotion/S003/001/S003_001_00000005_emotion.txt", ["12"]),
         "L/Emotion/S003/001/S003_001_00000005_emotion.txt:1: expected one label such as 3.0000000e+00, got '12'"),
        ("subjects", lambda r: [file.unlink() for n in ("001", "002") for file in (r / "L/Emotion").rglob(f"S{n}_*")],
         "L: 9 subjects; 10 folds need at least 10"),
    ],
    "dfew": [
        ("file", lambda r: (r / "L/test(single-labeled)/set_4.csv").unlink(),
         "L: missing split files: test(single-labeled)/set_4.csv"),
        ("clip", lambda r: (r / "F/00012.mp4").unlink(), "F: 1 of 35 files are missing: 00012;"),
        ("frames", lambda r: [file.unlink() for file in (r / "F/00011").iterdir()],
         "F: 1 of 35 files are missing: 00011;"),
        ("class", lambda r: replace(r / "L/train(single-labeled)/set_1.csv", "1,1\n", "1,8\n"),
         "L/train(single-labeled)/set_1.csv:2: label '8' is outside 1..7; they count from 1 (1 happiness to 7 fear)"),
        ("0-based", lambda r: replace(r / "L/test(single-labeled)/set_1.csv", "5,1\n", "5,0\n"),
         "L/test(single-labeled)/set_1.csv:2: label '0' is outside 1..7; they count from 1"),
        ("blank line", lambda r: replace(r / "L/test(single-labeled)/set_1.csv", "5,1\n", "5,1\n\n"),
         "L/test(single-labeled)/set_1.csv:3: blank line"),
        ("header", lambda r: replace(r / "L/test(single-labeled)/set_1.csv", "video_name,label\n", ""),
         "L/test(single-labeled)/set_1.csv:1: expected the header video_name,label, got '5,1'"),
        ("train and test", lambda r: replace(r / "L/test(single-labeled)/set_1.csv", "\n5,", "\n1,"),
         "files listed twice: 00001 (L/train(single-labeled)/set_1.csv:2 and L/test(single-labeled)/set_1.csv:2)"),
    ],
    "ferv39k": [
        ("file", lambda r: (r / "L/test_All.csv").unlink(), "L: missing split files: test_All.csv"),
        ("clip", lambda r: (r / "F/Action/Sad/0011/1.jpg").unlink(), "F: 1 of 168 files are missing: Action/Sad/0011;"),
        ("class", lambda r: replace(r / "L/test_All.csv", "0011 Happy", "0011 Joy"),
         "L/test_All.csv:1: class 'Joy' is none of happiness, sadness"),
        ("number", lambda r: replace(r / "L/test_All.csv", "0011 Happy", "0011 0"),
         "L/test_All.csv:1: class '0' is none of happiness, sadness"),
        ("blank line", lambda r: replace(r / "L/test_All.csv", "Happy\n", "Happy\n\n"), "L/test_All.csv:2: blank line"),
        ("wrong class", lambda r: replace(r / "L/test_All.csv", "0011 Happy", "0011 Sad"),
         "L/test_All.csv:1: class Sad, but the clip lies in the folder of Happy"),
    ],
    "mafw": [
        ("file", lambda r: (r / "L/set_5/train.txt").unlink(), "L: missing split files: set_5/train.txt"),
        ("clip", lambda r: (r / "F/00030.mp4").unlink(), "F: 1 of 33 files are missing: 00030.mp4;"),
        ("class", lambda r: replace(r / "L/set_2/test.txt", "anger", "rage"),
         "L/set_2/test.txt:1: class 'rage' is none of happiness,"),
        ("number", lambda r: replace(r / "L/set_2/test.txt", "anger", "1"),
         "L/set_2/test.txt:1: class '1' is none of happiness,"),
        ("blank line", lambda r: replace(r / "L/set_2/test.txt", "anger\n", "anger\n\n"),
         "L/set_2/test.txt:2: blank line"),
        ("caption", lambda r: (r / "L/set_1/train.txt").write_bytes(b"00002.mp4\tanger\t\xd2\xbb\xb8\xf6\ta man\n"),
         "L/set_1/train.txt: not a text file in UTF-8"),
        ("captions", lambda r: write(r / "L/set_1/train.txt", ["00002.mp4\tanger\ta man"]),
         "L/set_1/train.txt:1: expected `02820.mp4 anger`, got '00002.mp4\\tanger\\ta man'"),
    ],
    "folders": [
        ("part", lambda r: (r / "L/train").rename(r / "L/training"), "L: missing folders: train"),
        ("class", lambda r: (r / "L/test/bored").rename(r / "L/test/boredom"),
         "L/test/boredom/0.png: class 'boredom' is not among the training classes"),
        ("number", lambda r: (r / "L/test/bored").rename(r / "L/test/1"),
         "L/test/1: the folder is a number; rename it to the name of its class"),
        ("empty", lambda r: [file.unlink() for file in (r / "L/train/bored").iterdir()],
         "L/train/bored: no file of this class"),
    ],
    "csv": [
        ("file", lambda r: (r / "L/list.csv").unlink(), "L/list.csv: there is no such file"),
        ("image", lambda r: (r / "F/test/bored1.png").unlink(), "F: 1 of 24 files are missing: test/bored1.png;"),
        ("class", lambda r: replace(r / "L/list.csv", "bored,test", "boredom,test"),
         "L/list.csv:24: class 'boredom' is not among the training classes"),
        ("number", lambda r: replace(r / "L/list.csv", "happy,train", "0,train"),
         "L/list.csv:2: label '0' is a number; give the name of the class"),
        ("blank line", lambda r: replace(r / "L/list.csv", "train/happy3.png,happy,train", ",,"),
         "L/list.csv:5: expected 3 cells (path,label,split), none of them empty"),
        ("split", lambda r: replace(r / "L/list.csv", "happy,train", "happy,training"),
         "L/list.csv:2: split 'training'; expected train, val or test"),
        ("truly blank line", lambda r: replace(r / "L/list.csv", "happy,train\n", "happy,train\n\n"),
         "L/list.csv:3: blank line; remove it"),
    ],
}  # fmt: skip


@pytest.mark.parametrize(
    ("layout", "break_it", "message"),
    [
        pytest.param(name, call, text, id=f"{name}-{what}")
        for name, cases in BROKEN.items()
        for what, call, text in cases
    ],
)
def test_broken_input_is_named_and_nothing_is_written(tmp_path, layout, break_it, message):
    keywords = MAKERS[layout](tmp_path)
    break_it(tmp_path)
    with pytest.raises(ManifestError) as caught:
        run(tmp_path, keywords)
    text = str(caught.value).replace(f"{tmp_path}{os.sep}", "")
    assert text.startswith(message) and "\n" not in text
    assert {path.name for path in tmp_path.iterdir()} <= {"L", "F"}


def test_a_file_in_the_folder_of_another_expression_is_refused(tmp_path):
    keywords = MAKERS["rafdb"](tmp_path)
    (tmp_path / "F/aligned").rename(tmp_path / "F/fear")
    with pytest.raises(ManifestError, match="class surprise, but fear/train_00001_aligned"):
        run(tmp_path, keywords, files=tmp_path / "F")


def test_arguments_that_make_no_sense(tmp_path):
    keywords = MAKERS["rafdb"](tmp_path)
    with pytest.raises(ValueError, match="votes are a matter of ferplus, not of rafdb"):
        run(tmp_path, keywords, votes="unique")
    with pytest.raises(ValueError, match="expected a layout of rafdb, fer2013, "):
        run(tmp_path, {**keywords, "layout": "raf"})
    with pytest.raises(ManifestError, match="drop: class 'boredom' is none of surprise"):
        run(tmp_path, keywords, drop=["boredom"])
    (tmp_path / "out").mkdir()
    (tmp_path / "out/mine").touch()
    with pytest.raises(FileExistsError, match="is already there and not empty"):
        run(tmp_path, keywords)

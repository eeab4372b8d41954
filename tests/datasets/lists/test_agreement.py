"""Labels against the folders of files, for every kind of list."""

from pathlib import Path

import pytest

from mote.config import load as load_config
from mote.datasets.lists.agreement import check_files, check_folders, check_same_folders
from mote.datasets.lists.images import read_images
from mote.datasets.lists.manifest import ManifestError, Record
from mote.datasets.lists.reading import Listing
from mote.evaluation.listings import evaluation_list


def records(text: str, root: str = "data") -> list[Record]:
    return [Record(Path(root) / path, int(label)) for path, label in (line.rsplit(" ", 1) for line in text.split(", "))]


def test_the_nearest_folder_named_after_a_class_counts():
    names = ["anger", "fear"]
    assert check_folders("l", records("angry/1.jpg 0, Fearful/2.jpg 1, other/3.jpg 1"), names, None) == 2
    assert check_folders("l", records("anger/s1/1.jpg 0, fear/s1/2.jpg 1"), names, None) == 2
    assert check_folders("l", records("s1/1.jpg 0, s2/2.jpg 1", "data/fear"), names, None) == 0  # holds all files
    for text in ("angry/1.jpg 1", "anger/s1/1.jpg 1, fear/s1/2.jpg 0", "x/anger/s1/1.jpg 1, x/fear/s1/2.jpg 1"):
        with pytest.raises(ManifestError, match="lies in the folder of class"):
            check_folders("l", records(text), names, None)
    with pytest.raises(ManifestError, match="class 1 \\(fear\\)"):
        check_folders("l", records("n01/1.jpg 0"), names, ["n00", "n01"])


def test_two_lists_of_numbers_must_number_folders_alike():
    ours, theirs = records("a/1.jpg 0, b/2.jpg 1"), records("a/3.jpg 1, b/4.jpg 0")
    check_same_folders(ours, records("a/3.jpg 0, b/4.jpg 1, c/4.jpg 2"), "x", "y")
    with pytest.raises(ManifestError, match="x: folder a has label 0, but 1 in y"):
        check_same_folders(ours, theirs, "x", "y")
    check_same_folders(ours, records("a/3.jpg 0, a/4.jpg 1, b/4.jpg 0"), "x", "y")  # folders are no classes there


def test_images_evaluated_by_another_order_of_classes_are_refused(tmp_path):
    lists = {"train": "anger/1.png 0\nfear/1.png 1\n", "test": "anger/2.png 1\nfear/2.png 0\n"}
    for name, text in lists.items():
        (tmp_path / f"{name}.txt").write_text(text)
    for folder in ("anger", "fear"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "2.png").touch()
    names = tmp_path / "classes.csv"
    names.write_text("id,name\nanger,cross\nfear,afraid\n")
    base = [f"data.train={tmp_path / 'train.txt'}", f"evaluation.manifest={tmp_path / 'test.txt'}", "task=image"]
    assert read_images(tmp_path / "train.txt").classes == ["0", "1"]
    with pytest.raises(ManifestError, match=r"test\.txt: folder anger has label 1, but 0 in .*train\.txt"):
        evaluation_list(load_config([], base), ["0", "1"])
    with pytest.raises(ManifestError, match=r"label 1 \(afraid\) but lies in the folder of class 0 \(cross\)"):
        evaluation_list(load_config([], [*base, f"data.classes={names}"]), ["cross", "afraid"])


def test_labels_from_one_under_a_class_file_from_one_are_refused(tmp_path):
    (tmp_path / "classInd.txt").write_text("1 Clap\n2 Wave\n3 Jump\n")
    (tmp_path / "list.txt").write_text("a/1.avi 1\na/2.avi 2\n")
    listing = Listing(tmp_path / "list.txt", classes=tmp_path / "classInd.txt")
    with pytest.raises(ManifestError, match=r"no label is 0, and .*classInd\.txt counts from 1"):
        listing.records(listing.names())
    (tmp_path / "list.txt").write_text("Wave/1.avi 1\nJump/2.avi 2\n")  # folders tell: labels count from 0
    assert [record.label for record in listing.records(listing.names())] == [1, 2]


def test_missing_files_are_counted_before_anything_is_decoded(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "1.mp4").touch()
    (tmp_path / "a" / "gone.mp4").symlink_to(tmp_path / "nowhere.mp4")
    (tmp_path / "0.tar").touch()
    there = records("a/1.mp4 0, 0.tar/@512+10/x/1.mp4 0", str(tmp_path))
    check_files("l", there, "--root")
    lost = records("a/gone.mp4 0, b/1.mp4 0, 1.tar/@512+10/x/1.mp4 0", str(tmp_path))
    with pytest.raises(ManifestError, match=r"l: 3 of 5 files are missing, the first is .*gone\.mp4; say with --root"):
        check_files("l", [*there, *lost], "--root")
    check_files("l", [*there, *lost], "--root", some=True)
    with pytest.raises(ManifestError, match="3 of 3 files are missing"):
        check_files("l", lost, "--root", some=True)

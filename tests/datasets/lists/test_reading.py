"""A list as its four settings name it; labels that contradict the folders, in every kind of list."""

import hashlib

import pytest

from mote.datasets.lists.folders import IMAGE_SUFFIXES
from mote.datasets.lists.images import read_images
from mote.datasets.lists.manifest import ManifestError, Record
from mote.datasets.lists.reading import Listing, templates


@pytest.fixture
def folder(tmp_path):
    for name, suffix in (("run", "mp4"), ("walk", "mp4"), ("run", "png"), ("walk", "png")):
        (tmp_path / "tree" / name).mkdir(parents=True, exist_ok=True)
        (tmp_path / "tree" / name / f"a.{suffix}").touch()
    return tmp_path


def test_names_records_and_hash_of_a_file_and_of_a_folder(folder):
    tree, rows = folder / "tree", folder / "list.csv"
    rows.write_text("path,label,split\nrun/a.mp4,running,test\nwalk/a.mp4,walk,train\n")
    (folder / "classes.csv").write_text("id,name\nwalk,walking\nrunning,run\n")
    listing = Listing(rows, tree, "test", folder / "classes.csv")
    assert listing.names() == ["walking", "run"] and Listing(rows).names() == ["running", "walk"]
    assert listing.records(listing.names()) == [Record(tree / "run/a.mp4", 1)]
    assert listing.sha256([]) == hashlib.sha256(rows.read_bytes()).hexdigest()
    whole = Listing(tree)
    assert whole.names() == ["run", "walk"]
    assert whole.records() == [Record(tree / "run/a.mp4", 0), Record(tree / "walk/a.mp4", 1)]
    assert [record.path.name for record in whole.records(suffixes=IMAGE_SUFFIXES)] == ["a.png", "a.png"]
    assert whole.sha256(whole.records()) == hashlib.sha256(b"run/a.mp4 0\nwalk/a.mp4 1\n").hexdigest()
    assert len(templates(None)) == 28


@pytest.mark.parametrize("suffix", ["mp4", "png"])
@pytest.mark.parametrize("kind", ["csv", "txt"])
def test_labels_that_the_folders_contradict_are_refused(folder, suffix, kind):
    rows = folder / f"list.{kind}"
    lines = {"csv": "path,label\nrun/a.{0},0\nwalk/a.{0},1\n", "txt": "run/a.{0} 0\nwalk/a.{0} 1\n"}[kind]
    rows.write_text(lines.format(suffix))
    read = Listing(rows, folder / "tree").records
    if suffix == "png":
        read = lambda names: read_images(rows, folder / "tree", names).records  # noqa: E731
    assert [record.label for record in read(["run", "walk"])] == [0, 1]
    with pytest.raises(
        ManifestError, match=r"label 0 \(walk\) but lies in the folder of class 1 \(run\); so do 2 of 2"
    ):
        read(["walk", "run"])

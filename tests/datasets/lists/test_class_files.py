"""Class files: headers, columns in either order, numbered lines, comments; and the right value or a line."""

from pathlib import Path

import pytest

from mote.datasets.lists.class_files import counts_from_one, has_folder_names, read_class_ids, read_class_names
from mote.datasets.lists.manifest import ManifestError, manifest_classes, read_manifest, read_rows

TWO = ["clap", "wave"]


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    "text",
    [
        "0,clap\n1,wave\n",
        "1,wave\n0,clap\n",
        "clap,0\nwave,1\n",
        "id,name\n0,clap\n1,wave\n",
        "name,id\nclap,0\nwave,1\n",
        "klasse,bezeichnung\n0,clap\n1,wave\n",
        "bezeichnung,klasse\nwave,1\nclap,0\n",
        "Class_Name, Class_ID\nclap,0\nwave,1\n",
        "label,class\n0,clap\n1,wave\n",
        "class,label\nclap,0\nwave,1\n",
        "# made by hand\n#id,name\n0,clap\n# between\n1,wave\n",
    ],
)
def test_tables_may_have_any_header_and_either_order(tmp_path, text):
    path = write(tmp_path / "classes.csv", text)
    assert read_class_names(path) == TWO and read_class_ids(path) is None


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("ApplyLipstick,apply lipstick\nYoYo,yo yo\n", True),
        ("apply lipstick,ApplyLipstick\nyo yo,YoYo\n", True),
        ("ordner,worte\nApplyLipstick,apply lipstick\nYoYo,yo yo\n", True),
        ("name,folder\napply lipstick,ApplyLipstick\nyo yo,YoYo\n", True),
        ("wnid,words\nApplyLipstick,apply lipstick\nYoYo,yo yo\n", True),
    ],
)
def test_a_datasets_own_names_are_told_from_the_words(tmp_path, text, ids):
    path = write(tmp_path / "classes.csv", text)
    assert read_class_names(path) == ["apply lipstick", "yo yo"]
    assert read_class_ids(path) == ["ApplyLipstick", "YoYo"]


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("1 ApplyEyeMakeup\n2 YoYo\n", ["ApplyEyeMakeup", "YoYo"]),
        ("0 clap\n1 wave\n", TWO),
        ("1\twave\n0\tclap\n", TWO),
        ("0,clap\n1,wave\n", TWO),
        ("1. clap\n2. wave\n", TWO),
        ("clap 0\nwave 1\n", TWO),
        ("id name\n0 clap\n1 wave\n", TWO),
        ("# UCF\n1 clap\n2 wave\n", TWO),
        ("clap\n# a comment\nwave\n", TWO),
        ("digit 0\ndigit 1\n", ["digit 0", "digit 1"]),
        ("1 finger\n2 finger\n", ["1 finger", "2 finger"]),
        ("step 3\njump 7\n", ["step 3", "jump 7"]),
        ("walk\n2 hands\n", ["walk", "2 hands"]),
    ],
)
def test_numbered_lines_are_names_with_numbers_and_names_that_count_stay(tmp_path, text, names):
    assert read_class_names(write(tmp_path / "classInd.txt", text)) == names


def test_numbers_of_class_files_are_known(tmp_path):
    ucf = write(tmp_path / "classInd.txt", "1 ApplyEyeMakeup\n2 YoYo\n")
    assert counts_from_one(ucf) and has_folder_names(ucf)
    plain = write(tmp_path / "names.txt", "clap\nwave\n")
    assert not counts_from_one(plain) and not has_folder_names(plain)


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("a.csv", "hand,clapping\narm,waving\nleg,running\n", ":1: is 'hand,clapping' a class, or does it say"),
        ("a.csv", "name,name\n0,clap\n", ":1: two columns of one name"),
        ("a.csv", "name,id\n0,clap\n1,wave\n", ":2: the column of names holds numbers"),
        ("a.csv", "0,5\n1,0\n2,1\nx,y\n", ":4: expected an id not used before, got 'x'"),
        ("a.csv", "1,0\n0,1\n", ": both columns hold numbers"),
        ("a.csv", "clap,2\n0,wave\n1,jump\n", ":1: expected an id not used before, got 'clap'"),
        ("a.txt", "1 clap\n3 wave\n", ": every line begins with a number"),
        ("a.txt", "jump\n1 clap\n2 wave\n", ":1: 'jump' has no number"),
        ("a.txt", "clap\n\u200b\n", ":2: a name that cannot be seen"),
        ("a.txt", "caf\u00e9\ncafe\u0301\n", ":2: class 'cafe\u0301' ('cafe\\u0301') is already there, in line 1"),
        ("a.txt", "clap\ncl\u200bap\n", ":2: class 'cl\\u200bap' ('cl\\u200bap') is already there"),
        ("a.txt", "jump rope\njump\u00a0rope\n", ":2: class "),
    ],
)
def test_what_cannot_be_told_is_refused_with_the_line(tmp_path, file, text, message):
    path = write(tmp_path / file, text)
    with pytest.raises(ManifestError) as caught:
        read_class_names(path)
    assert str(caught.value).startswith(f"{path}{message}")


def test_twins_are_one_name_in_lists_and_folders(tmp_path):
    rows = write(tmp_path / "a.csv", "path,label\na.mp4,caf\u00e9\nb.mp4,cafe\u0301\nc.mp4,cl\u200bap\n")
    assert manifest_classes(rows) == ["café", "clap"]
    assert [record.label for record in read_manifest(rows, classes=["clap", "cafe\u0301"])] == [1, 1, 0]
    (tmp_path / "videos" / "cafe\u0301").mkdir(parents=True)
    (tmp_path / "videos" / "cafe\u0301" / "a.mp4").touch()
    assert read_manifest(tmp_path / "videos", classes=["clap", "café"])[0].label == 1
    assert manifest_classes(tmp_path / "videos") == ["café"]
    (tmp_path / "videos" / "café").mkdir()
    with pytest.raises(ManifestError, match=r"'caf\\xe9'.* have one name; join them"):
        read_manifest(tmp_path / "videos")
    other = write(tmp_path / "b.csv", "path,label\na.mp4,Clap\n")
    with pytest.raises(ManifestError, match="'Clap' is not a known class name; the class list spells it 'clap'"):
        read_manifest(other, classes=["clap"])


def test_cells_of_split_match_whatever_their_case_and_are_never_dropped(tmp_path):
    path = write(
        tmp_path / "a.csv", "Path, Label ,SPLIT\na.mp4,0,Train\nb.mp4,0,train \nc.mp4,0, TEST\nd.mp4,0,train\n"
    )
    assert [row.path for row in read_rows(path, select="train")] == ["a.mp4", "b.mp4", "d.mp4"]
    assert [row.path for row in read_rows(path, select="Test")] == ["c.mp4"]
    gap = write(tmp_path / "b.csv", "path,label,split\na.mp4,0,train\nb.mp4,0,\n")
    with pytest.raises(ManifestError, match=r"b\.csv:3: the cell `split` is empty"):
        read_rows(gap, select="train")
    for header in ("path,label,label", "path,label,split,Split", "path,label,x,x"):
        twice = write(tmp_path / "c.csv", header + "\n" + ",".join("0" for _ in header.split(",")) + "\n")
        with pytest.raises(ManifestError, match=r"c\.csv:1: two columns '"):
            read_rows(twice)

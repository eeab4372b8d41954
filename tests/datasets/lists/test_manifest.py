from pathlib import Path

import pytest

from mote.datasets.lists.manifest import (
    ManifestError,
    Record,
    folder_classes,
    manifest_classes,
    read_class_ids,
    read_class_names,
    read_manifest,
    read_templates,
)


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def error_of(call, *arguments, **keywords) -> str:
    with pytest.raises(ManifestError) as caught:
        call(*arguments, **keywords)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_last_token_is_the_label_and_all_before_it_the_path(tmp_path):
    names = [
        "a.mp4",
        "two words.mp4",
        "sub dir/(x) [y]!.avi",
        "größe 動画.mp4",
        "clip 12",
        "a,b.mp4",
        "tab\tin name.mp4",
    ]
    (tmp_path / "clip 12").mkdir()
    path = write(tmp_path / "list.txt", "".join(f"{name} {label}\n" for label, name in enumerate(names)))
    assert read_manifest(path) == [Record(tmp_path / name, label) for label, name in enumerate(names)]


def test_line_ends_marks_and_tabs_are_understood(tmp_path):
    path = tmp_path / "list.txt"
    path.write_bytes(b"\xef\xbb\xbfa b.mp4\t0\r\nc.mp4   1  \r\n\r\n\n")
    assert read_manifest(path) == [Record(tmp_path / "a b.mp4", 0), Record(tmp_path / "c.mp4", 1)]


def test_root_and_absolute_paths(tmp_path):
    path = write(tmp_path / "list.txt", "a.mp4 0\n/elsewhere/b.mp4 1\n")
    assert read_manifest(path, root="/videos") == [
        Record(Path("/videos/a.mp4"), 0),
        Record(Path("/elsewhere/b.mp4"), 1),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "list.txt: it lists no video"),
        ("\n\n", "list.txt: it lists no video"),
        ("a.mp4 0\n\nb.mp4 1\n", "list.txt:2: blank line; remove it"),
        ("a.mp4 0\nb.mp4\n", "list.txt:2: expected `path label` with a number as label, got 'b.mp4'"),
        ("a.mp4 x\n", "list.txt:1: expected `path label` with a number as label, got 'a.mp4 x'"),
        ("a.mp4,0\n", "list.txt:1: expected `path label`"),
        ("a.mp4 0\na.mp4 1.5\n", "list.txt:2: expected `path label`"),
        (
            "frames/a 250 3\n",
            "list.txt:1: expected `path label`, got 'frames/a 250 3'; remove the column of frame counts",
        ),
        ("a.mp4 0\nb.mp4 2\n", "list.txt:2: label 2 is outside 0..1; check the list and the class list"),
        ("a.mp4 -1\n", "list.txt:1: label -1 is outside 0..1"),
    ],
)
def test_wrong_lines_are_named(tmp_path, text, message):
    path = write(tmp_path / "list.txt", text)
    assert error_of(read_manifest, path, classes=["run", "walk"]).startswith(f"{tmp_path}/{message}")


def test_without_classes_only_negative_labels_are_outside(tmp_path):
    path = write(tmp_path / "list.txt", "a.mp4 700\n")
    assert read_manifest(path)[0].label == 700
    assert "label -2 is outside 0.." in error_of(read_manifest, write(path, "a.mp4 -2\n"))


def test_missing_and_binary_files(tmp_path):
    assert error_of(read_manifest, tmp_path / "no.txt") == f"{tmp_path / 'no.txt'}: there is no such file or folder"
    (tmp_path / "video.mp4").write_bytes(b"\x00\x00\xff\xfe\n")
    assert "not a text file in UTF-8" in error_of(read_manifest, tmp_path / "video.mp4")
    (tmp_path / "video.csv").write_bytes(b"path,label\n\xff\xfe,1\n")
    assert "not a text file in UTF-8" in error_of(read_manifest, tmp_path / "video.csv")


CSV = 'path,label,split\n"one, two.mp4",run,train\nb c.mp4,walk,test\n"say ""hi"".mp4",run,test\n'


def test_class_files_may_carry_the_folder_names_of_a_dataset(tmp_path):
    classes = write(tmp_path / "classes.csv", "id,name\nApplyLipstick,apply lipstick\nYoYo,yo yo\n")
    names, ids = read_class_names(classes), read_class_ids(classes)
    assert (names, ids) == (["apply lipstick", "yo yo"], ["ApplyLipstick", "YoYo"])
    for folder, name in (("YoYo", "b.avi"), ("ApplyLipstick", "a.avi")):
        (tmp_path / "videos" / folder).mkdir(parents=True)
        (tmp_path / "videos" / folder / name).touch()
    records = read_manifest(tmp_path / "videos", classes=names, ids=ids)
    assert [(record.path.name, record.label) for record in records] == [("a.avi", 0), ("b.avi", 1)]
    rows = write(tmp_path / "list.csv", "path,label\na.avi,yo yo\nb.avi,YoYo\nc.avi,0\n")
    assert [record.label for record in read_manifest(rows, classes=names, ids=ids)] == [1, 1, 0]
    assert "is not a known class name" in error_of(read_manifest, rows, classes=names)
    assert read_class_ids(write(tmp_path / "c.csv", "0,run\n1,walk\n")) is None
    assert "class 'YoYo' is already there" in error_of(read_class_ids, write(tmp_path / "d.csv", "YoYo,a\nYoYo,b\n"))


def test_csv_with_names_splits_and_quotes(tmp_path):
    path = write(tmp_path / "list.csv", CSV)
    names = [tmp_path / "one, two.mp4", tmp_path / "b c.mp4", tmp_path / 'say "hi".mp4']
    classes = ["run", "walk"]
    assert manifest_classes(path) == classes
    assert read_manifest(path, classes=classes) == [Record(names[0], 0), Record(names[1], 1), Record(names[2], 0)]
    assert read_manifest(path, classes=classes, select="test") == [Record(names[1], 1), Record(names[2], 0)]


def test_csv_with_ids_other_columns_and_any_order(tmp_path):
    path = write(tmp_path / "list.csv", "label,note,path\n1,x,a.mp4\n0,,b.mp4\n")
    assert read_manifest(path) == [Record(tmp_path / "a.mp4", 1), Record(tmp_path / "b.mp4", 0)]


@pytest.mark.parametrize(
    ("text", "keywords", "message"),
    [
        ("a.mp4,0\nb.mp4,1\n", {}, ":1: expected a header with columns path and label, got 'a.mp4,0'"),
        ("", {}, ":1: expected a header"),
        ("path,label\n", {}, ": it lists no video"),
        ("path,label\na.mp4,run\n", {}, ":2: label 'run' is not a known class name; give the class list"),
        ("path,label\na.mp4,jump\n", {"classes": ["run"]}, ":2: label 'jump' is not a known class name; check the"),
        ("path,label\na.mp4,1\n", {"classes": ["run"]}, ":2: label 1 is outside 0..0"),
        ("path,label\na.mp4,1\n", {"classes": ["1", "2"]}, ":2: label 1 is an id, but also the name of class 0"),
        ("path,label,split\na.mp4,0\n", {}, ":2: expected 3 cells (path,label,split)"),
        ("path,label\na.mp4,0,train\n", {}, ":2: expected 2 cells (path,label)"),
        ("path,label\n,0\n", {}, ":2: expected 2 cells"),
        (CSV, {"select": "val", "classes": ["run", "walk"]}, ": no row has split 'val'; there are ['test', 'train']"),
        ("path,label\na.mp4,0\n", {"select": "val"}, ": no row has split 'val'; there are no splits"),
    ],
)
def test_wrong_csv_is_named(tmp_path, text, keywords, message):
    path = write(tmp_path / "list.csv", text)
    assert error_of(read_manifest, path, **keywords).startswith(f"{path}{message}")


def test_split_of_a_list_without_columns(tmp_path):
    path = write(tmp_path / "list.txt", "a.mp4 0\n")
    assert "only a .csv list has a column `split`" in error_of(read_manifest, path, select="test")


def test_folder_per_class(tmp_path):
    for name in ["walk/b 2.mp4", "walk/a.MP4", "run/deep/x.avi", "run/notes.txt", "run/.hidden.mp4", ".cache/y.mp4"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "README.md").touch()
    run, a, b = tmp_path / "run/deep/x.avi", tmp_path / "walk/a.MP4", tmp_path / "walk/b 2.mp4"
    assert folder_classes(tmp_path) == manifest_classes(tmp_path) == ["run", "walk"]
    with pytest.warns(match=r": 1 left out, which are no videos: 1 \.txt; such as run/notes\.txt$"):
        assert read_manifest(tmp_path) == [Record(run, 0), Record(a, 1), Record(b, 1)]
    (tmp_path / "run/notes.txt").unlink()
    assert read_manifest(tmp_path, classes=["walk", "sit", "run"]) == [Record(run, 2), Record(a, 0), Record(b, 0)]
    unknown = error_of(read_manifest, tmp_path, classes=["run"])
    assert unknown.startswith(f"{tmp_path / 'walk'}: this folder's name is not in the class list")


def test_files_in_no_class_folder_and_links_to_nothing_are_told(tmp_path):
    (tmp_path / "run").mkdir()
    for name in ("run/a.mp4", "b.mp4"):
        (tmp_path / name).touch()
    with pytest.warns(match=r": 1 left out, which lie in no class folder; such as b\.mp4$"):
        assert [record.path.name for record in read_manifest(tmp_path)] == ["a.mp4"]
    (tmp_path / "walk").symlink_to(tmp_path / "gone")
    for read in (folder_classes, read_manifest, manifest_classes):
        assert error_of(read, tmp_path) == f"{tmp_path / 'walk'}: this link leads to nothing; repair or remove it"


def test_folders_without_classes_or_videos(tmp_path):
    assert "it lists no subfolder; expected one per class" in error_of(read_manifest, tmp_path)
    (tmp_path / "run").mkdir()
    assert error_of(read_manifest, tmp_path) == f"{tmp_path}: it lists no video"
    assert "no such folder" in error_of(folder_classes, tmp_path / "no")


def test_classes_cannot_be_derived_from_numbers_or_text(tmp_path):
    assert "labels are numbers" in error_of(manifest_classes, write(tmp_path / "a.csv", "path,label\na.mp4,0\n"))
    error = error_of(manifest_classes, write(tmp_path / "a.txt", "a.mp4 0\n"))
    assert "a.txt: has numbers in place of class names" in error and "data.classes=FILE" in error
    assert "data.classes=FILE" in error_of(manifest_classes, write(tmp_path / "b.csv", "path,label\na.mp4,0\n"))
    assert error_of(manifest_classes, tmp_path / "no.csv") == f"{tmp_path / 'no.csv'}: there is no such file or folder"
    train = write(tmp_path / "training.csv", "path,label\na.mp4,red\n")
    for read in (manifest_classes, read_manifest):  # the one that was probably meant is named
        assert error_of(read, tmp_path / "trainng.csv").endswith(f"there is no such file or folder (is it {train}?)")


def test_class_names(tmp_path):
    names = ["tai chi", "push up, fast", "größe"]
    assert read_class_names(write(tmp_path / "a.txt", "\n".join(names) + "\n\n")) == names
    rows = '0,tai chi\n2,größe\n1,"push up, fast"\n'
    assert read_class_names(write(tmp_path / "a.csv", rows)) == names
    assert read_class_names(write(tmp_path / "b.csv", "id,name\n" + rows)) == names


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("a.txt", "", ": it lists no class name"),
        ("a.txt", "run\n\nwalk\n", ":2: blank line"),
        ("a.txt", "run\nwalk\nrun\n", ":3: class 'run' is already there, in line 1"),
        ("a.csv", "id,name\n0,run\n1,run\n", ":3: class 'run' is already there, in line 2"),
        ("a.csv", "id,name\n0,run\n0,walk\n", ":3: expected an id not used before, got '0'"),
        ("a.csv", "1,run\n2,walk\n", ": expected the ids 0..1, got 1..2"),
        ("a.csv", "0,run\nx,walk\n", ":2: expected an id not used before, got 'x'"),
        ("a.csv", "id,name\n0,run,fast\n", ":2: expected `id,name`, got '0,run,fast'"),
        ("a.csv", "run\nwalk\n", ":1: expected `id,name`, got 'run'"),
        ("a.csv", "id,name\n", ": it lists no class name"),
        ("a.csv", "id,name\n,run\n", ":2: expected `id,name`"),
    ],
)
def test_wrong_class_lists_are_named(tmp_path, file, text, message):
    path = write(tmp_path / file, text)
    assert error_of(read_class_names, path).startswith(f"{path}{message}")


def test_templates(tmp_path):
    path = write(tmp_path / "t.txt", "a video of {}.\n{} , in slow motion\n")
    assert read_templates(path) == ["a video of {}.", "{} , in slow motion"]
    assert error_of(read_templates, write(path, "a {}\nno place\n")).startswith(f"{path}:2: expected exactly one {{}}")
    assert ":1: expected exactly one {}" in error_of(read_templates, write(path, "{} and {}\n"))
    assert "it lists no template" in error_of(read_templates, write(path, ""))
    assert "there is no such file" in error_of(read_templates, tmp_path / "no.txt")


def test_real_list(real_data):
    path = real_data / "fight_surv" / "LABELS.csv"
    classes = manifest_classes(path)
    assert classes == ["fight", "noFight"]
    for split, each in (("train", 80), ("test", 35)):
        records = read_manifest(path, classes=classes, select=split)
        assert [sum(record.label == label for record in records) for label in (0, 1)] == [each, each]
        assert all(record.path.is_file() for record in records)
        assert all((record.path.parent.name == "fight") == (record.label == 0) for record in records)
    clips = read_manifest(
        real_data / "hmdb51_5clips" / "LABELS.csv", classes=manifest_classes(real_data / "hmdb51_5clips" / "LABELS.csv")
    )
    assert len(clips) == 5
    assert all(record.path.is_file() for record in clips)

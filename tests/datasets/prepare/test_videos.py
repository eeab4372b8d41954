"""`prepare` on look-alikes of every layout, whole and broken. The videos are empty files: none is decoded."""

import csv
import json
import os
from collections import Counter
from pathlib import Path

import pytest

from mote.datasets.lists.manifest import ManifestError, read_class_ids, read_class_names, read_manifest
from mote.datasets.prepare.layouts import VIDEOS
from mote.datasets.prepare.videos import Videos, prepare, summary

CLASSES = Path(__file__).resolve().parents[3] / "data" / "classes"
MARKED = [("a b.avi", "1"), ("(HQ)_[x]__!!!_-_vs._0.avi", "2"), ("  two  blanks;~.avi", "0"), ("100%_é_動画.avi", "1")]


def pairs(name: str) -> list[tuple[str, str]]:
    """(id, name) rows of one of our class lists."""
    with (CLASSES / name).open(encoding="utf-8", newline="") as file:
        return [(row["id"], row["name"]) for row in csv.DictReader(file)]


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def write(path: Path, lines: list[str], end: str = "\n") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes("".join(line + end for line in lines).encode())


def replace(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


def ucf101(root: Path) -> dict:
    """UCF101 with two groups of each of its 101 classes; group n is test in split n, group 1 again in split 3."""
    classes = pairs("ucf101.csv")
    write(root / "S" / "classInd.txt", [f"{n} {folder}" for n, (folder, _) in enumerate(classes, 1)], "\r\n")
    clips = {}
    for number, (folder, _) in enumerate(classes, 1):
        stem = f"{folder}/v_{folder.replace('stand', 'Stand')}"  # HandstandPushups/v_HandStandPushups_g01_c01.avi
        clips[number] = [f"{stem}_g0{group}_c01.avi" for group in (1, 2)]
        touch(*(root / "V" / clip for clip in clips[number]))
    for n in (1, 2, 3):
        write(root / "S" / f"testlist0{n}.txt", [own[(n - 1) % 2] for own in clips.values()], "\r\n")
        write(root / "S" / f"trainlist0{n}.txt", [f"{own[n % 2]} {number}" for number, own in clips.items()], "\r\n")
    return {"layout": "ucf101", "classes": classes}


def hmdb51(root: Path) -> dict:
    """HMDB51 with four clips of each of its 51 classes, named as wildly as the real ones."""
    classes = pairs("hmdb51.csv")
    for folder, _ in classes:
        for n in (1, 2, 3):
            lines = [f"{folder}{name} {mark} " for name, mark in MARKED]
            write(root / "S" / f"{folder}_test_split{n}.txt", lines)
        touch(*(root / "V" / folder / f"{folder}{name}" for name, _ in MARKED))
    return {"layout": "hmdb51", "classes": classes}


def kinetics400(root: Path) -> dict:
    """Three classes of Kinetics, in class folders (some tools spell them with _) and flat; test has no labels."""
    header = "label,youtube_id,time_start,time_end,split"
    write(
        root / "S" / "train.csv",
        [
            f"{header},is_cc",
            '"air drumming",-3B32lodo2M,59,69,train,0',
            "zumba,_Qe=LkBsz2Q,0,10,train,0",
            '"passing American football (in game)",--nQbRBEz2s,1289,1299,train,1',
        ],
    )
    write(root / "S" / "val.csv", [header, "zumba,abcdefghijk,3.0,13.0,val", "air drumming,lmnopqrstuv,40,50,val"])
    write(root / "S" / "test.csv", ["youtube_id,time_start,time_end,split", "zzzzzzzzzzz,0,10,test"])
    touch(
        root / "V" / "train" / "air_drumming" / "-3B32lodo2M_000059_000069.mp4",
        root / "V" / "train" / "_Qe=LkBsz2Q_000000_000010.mp4",
        root / "V" / "train" / "._Qe=LkBsz2Q_000000_000010.mp4",
        root / "V" / "train" / "passing American football (in game)" / "--nQbRBEz2s_001289_001299.mkv",
        root / "V" / "val" / "zumba" / "abcdefghijk_000003_000013.mp4",
        root / "V" / "val" / "air drumming" / "lmnopqrstuv_000040_000050.mp4",
    )
    names = ["air drumming", "passing American football (in game)", "zumba"]
    return {"layout": "kinetics400", "classes": [(name, name) for name in names]}


def ssv2(root: Path) -> dict:
    """Three classes of Something-Something V2."""
    names = ["Closing something", "Pretending to pick something up", "Plugging something into something"]
    order = [1, 2, 0]  # the label map is not in the order of the labels
    (root / "S").mkdir(parents=True)
    prefix = root / "S" / "something-something-v2-"
    Path(f"{prefix}labels.json").write_text(json.dumps({names[i]: str(i) for i in order}))
    train = [
        {"id": "7", "label": "closing door", "template": "Closing [something]", "placeholders": ["door"]},
        {"id": "8", "label": "x", "template": "Plugging [something] into [something]", "placeholders": ["a", "b"]},
    ]
    test = [{"id": 9, "label": "x", "template": "Pretending to pick [something up]", "placeholders": ["a"]}]
    Path(f"{prefix}train.json").write_text(json.dumps(train))
    Path(f"{prefix}validation.json").write_text(json.dumps(test))
    touch(*(root / "V" / f"{name}.webm" for name in (7, 8, 9, 10)))
    return {"layout": "ssv2"}


def lists(root: Path) -> dict:
    """The authors' lists: frame folders of HMDB51 with frame counts, and one list of files without counts."""
    write(root / "S" / "labels.csv", ["id,name", "0,brush hair", "1,climb stairs"])
    hair, climb = ["brush_hair/a [b]_vs._0", "brush_hair/c d_1"], ["climb_stairs/x 3", "climb_stairs/y_4"]
    write(root / "S" / "train_rgb_split_1.txt", [f"{hair[0]} 469 0", f"{climb[0]} 0 1"])
    write(root / "S" / "val_rgb_split_1.txt", [f"{hair[1]} 12 0", f"{climb[1]} 7 1"])
    write(root / "S" / "val_rgb_split_2.txt", [f"{climb[0]} 0 1"])  # a training video of split 1: no overlap
    write(root / "S" / "full.txt", [f"{name}.avi {label}" for label, two in enumerate((hair, climb)) for name in two])
    touch(*(root / "V" / f"{name}.avi" for name in (*hair, *climb)))
    return {"layout": "lists"}


MAKERS = {"ucf101": ucf101, "hmdb51": hmdb51, "kinetics400": kinetics400, "ssv2": ssv2, "lists": lists}


def run(root: Path, keywords: dict, **more) -> dict:
    return prepare(**{"videos": root / "V", "splits": root / "S", "out": root / "out", **keywords, **more})


def labelled(root: Path, name: str) -> dict[str, str]:
    """Path below the videos -> class name, of a written list read back by our own reader."""
    names = read_class_names(root / "out" / "classes.csv")
    records = read_manifest(root / "out" / f"{name}.txt", root=root / "V", classes=names)
    assert all(record.path.is_file() for record in records)
    found = {record.path.relative_to(root / "V").as_posix(): names[record.label] for record in records}
    assert len(found) == len(records)
    return found


def test_ucf101(tmp_path):
    report = run(tmp_path, ucf101(tmp_path))
    names = dict(pairs("ucf101.csv"))
    assert read_class_names(tmp_path / "out" / "classes.csv") == list(names.values()) == report["classes"]
    assert read_class_ids(tmp_path / "out" / "classes.csv") == list(names)
    for n in (1, 2, 3):
        train, test = labelled(tmp_path, f"train{n}"), labelled(tmp_path, f"test{n}")
        assert all(f"_g0{1 + (n - 1) % 2}_" in path for path in test) and len(test) == len(train) == 101
        assert {**train, **test} == labelled(tmp_path, "all")
    every = labelled(tmp_path, "all")
    assert all(names[path.split("/")[0]] == name for path, name in every.items()) and len(every) == 202
    assert every["HandstandPushups/v_HandStandPushups_g01_c01.avi"] == "handstand pushups"
    assert report["lists"]["all"]["per_class"] == dict.fromkeys(names.values(), 2)
    assert report["lists"]["test1"]["videos"] == 101 and report["lists"]["test1"]["imbalance"] == 1
    assert json.loads((tmp_path / "out" / "report.json").read_text(encoding="utf-8")) == report
    assert "test1: 101 videos, 1 to 1 per class" in summary(report)


def test_hmdb51(tmp_path):
    report = run(tmp_path, hmdb51(tmp_path))
    for n in (1, 2, 3):
        test, train = labelled(tmp_path, f"test{n}"), labelled(tmp_path, f"train{n}")
        assert len(test) == 51 and all(path.endswith("(HQ)_[x]__!!!_-_vs._0.avi") for path in test)
        assert len(train) == 102 and not set(train) & set(test)
    assert len(labelled(tmp_path, "all")) == 4 * 51  # the unused clips too
    assert all(path.split("/")[0].replace("_", " ") == name for path, name in labelled(tmp_path, "all").items())
    assert report["lists"]["train1"]["per_class"]["brush hair"] == 2


def test_kinetics_is_found_in_class_folders_and_flat(tmp_path):
    report = run(tmp_path, kinetics400(tmp_path))
    assert labelled(tmp_path, "train") == {
        "train/air_drumming/-3B32lodo2M_000059_000069.mp4": "air drumming",
        "train/_Qe=LkBsz2Q_000000_000010.mp4": "zumba",
        f"train/{report['classes'][1]}/--nQbRBEz2s_001289_001299.mkv": "passing American football (in game)",
    }
    assert set(labelled(tmp_path, "val").values()) == {"zumba", "air drumming"}
    assert read_class_ids(tmp_path / "out" / "classes.csv") is None  # numbers, as its names are all it has
    assert report["lists"]["val"]["empty_classes"] == ["passing American football (in game)"]
    assert report["notes"] == [f"{tmp_path / 'S' / 'test.csv'} has no column of labels and was left out"]
    assert "no video of passing American" in summary(report) and "left out" in summary(report)
    assert not (tmp_path / "out" / "missing.csv").exists() and not (tmp_path / "out" / "test.txt").exists()


@pytest.mark.parametrize(("layout", "count"), [("kinetics600", 600), ("kinetics700", 700)])
def test_kinetics_without_a_class_list_takes_all_labels_in_alphabetical_order(tmp_path, layout, count):
    header = "label,youtube_id,time_start,time_end,split"
    labels = [f"{'Class' if n % 2 else 'class'} {n:03d}" for n in range(count)]
    rows = [f"{label},id{n},0,10,validate" for n, label in enumerate(labels)]
    write(tmp_path / "S" / "validate.csv", [header, *rows[::-1]])
    touch(*(tmp_path / "V" / f"id{n}_000000_000010.mp4" for n in range(count)))
    assert run(tmp_path, {"layout": layout}, only=["val"])["classes"] == labels
    write(tmp_path / "S" / "validate.csv", [header, *rows[1:]])
    with pytest.raises(ManifestError, match=f"expected {count} labels, got {count - 1}"):
        run(tmp_path, {"layout": layout}, only=["val"], out=tmp_path / "other")


def test_ssv2(tmp_path):
    report = run(tmp_path, ssv2(tmp_path))
    assert labelled(tmp_path, "train") == {
        "7.webm": "Closing something",
        "8.webm": "Plugging something into something",
    }
    assert labelled(tmp_path, "validation") == {"9.webm": "Pretending to pick something up"}
    assert [name.split()[0] for name in report["classes"]] == ["Closing", "Pretending", "Plugging"]
    for part in ("labels", "train", "validation"):
        (tmp_path / "S" / f"something-something-v2-{part}.json").rename(tmp_path / "S" / f"{part}.json")
    assert run(tmp_path, {"layout": "ssv2"}, out=tmp_path / "again")["lists"] == report["lists"]


def test_authors_lists(tmp_path):
    run(tmp_path, lists(tmp_path))
    assert labelled(tmp_path, "train_rgb_split_1") == {
        "brush_hair/a [b]_vs._0.avi": "brush hair",
        "climb_stairs/x 3.avi": "climb stairs",
    }
    assert len(labelled(tmp_path, "full")) == 4 and len(labelled(tmp_path, "val_rgb_split_2")) == 1
    one = run(tmp_path, {"layout": "lists"}, splits=tmp_path / "S" / "full.txt", out=tmp_path / "one")
    assert list(one["lists"]) == ["full"]
    (tmp_path / "S" / "labels.csv").unlink()
    names = [("0", "Brush_Hair"), ("1", "climb stairs")]
    assert run(tmp_path, {"layout": "lists"}, classes=names, out=tmp_path / "two")["classes"][0] == "Brush_Hair"


BROKEN = {  # layout: (what is broken, how, and what the error says; S and V stand for the folders)
    "ucf101": [
        ("split file", lambda r: (r / "S/testlist02.txt").unlink(), "S: missing split files: testlist02.txt"),
        ("all files", lambda r: [f.unlink() for f in (r / "S").iterdir()],
         "S: missing split files: classInd.txt, trainlist01.txt, testlist01.txt, trainlist02.txt,"),
        ("video", lambda r: (r / "V/YoYo/v_YoYo_g01_c01.avi").unlink(),
         "V: 1 of 202 videos are missing: YoYo/v_YoYo_g01_c01.avi; "),
        ("class", lambda r: replace(r / "S/testlist01.txt", "Archery/", "Archer/"),
         "S/testlist01.txt:3: class 'Archer' is not in classInd.txt"),
        ("blank line", lambda r: replace(r / "S/trainlist01.txt", " 4\n", " 4\n\n"), "S/trainlist01.txt:5: blank line"),
        ("0-based labels", lambda r: replace(r / "S/trainlist03.txt", "avi 1\n", "avi 0\n"),
         "S/trainlist03.txt:1: label 0, but classInd.txt gives ApplyEyeMakeup the number 1"),
        ("0-based classes", lambda r: replace(r / "S/classInd.txt", "1 Apply", "0 Apply"),
         "S/classInd.txt:1: expected `1 ClassName`"),
        ("class order", lambda r: (replace(r / "S/classInd.txt", "Hammering", "?"),
                                   replace(r / "S/classInd.txt", "HammerThrow", "Hammering"),
                                   replace(r / "S/classInd.txt", "?", "HammerThrow")),
         "S/classInd.txt: class 34 is 'HammerThrow', but 'hammering' in the class list: the order differs"),
        ("lost class", lambda r: replace(r / "S/classInd.txt", "YoYo", "YoYos"),
         "S/classInd.txt: classes of the class list that it lacks: yoyo"),
        ("label", lambda r: replace(r / "S/trainlist01.txt", "avi 2\n", "avi\n"),
         "S/trainlist01.txt:2: expected `Class/video.avi number`"),
        ("train and test", lambda r: replace(r / "S/testlist01.txt", "YoYo_g01", "YoYo_g02"),
         "videos listed twice: YoYo/v_YoYo_g02_c01.avi (S/trainlist01.txt:101 and S/testlist01.txt:101)"),
        ("twice in a list", lambda r: write(r / "S/testlist01.txt", ["YoYo/v_YoYo_g01_c01.avi"] * 2),
         "videos listed twice: YoYo/v_YoYo_g01_c01.avi (S/testlist01.txt:1 and S/testlist01.txt:2)"),
        ("two copies", lambda r: touch(r / "V/x/v_YoYo_g01_c01.avi", r / "V/y/v_YoYo_g01_c01.avi",
                                       (r / "V/YoYo/v_YoYo_g01_c01.avi").rename(r / "V/z.avi")),
         "V: YoYo/v_YoYo_g01_c01.avi is there more than once: x/v_YoYo_g01_c01.avi, y/v_YoYo_g01_c01.avi; keep one"),
    ],
    "hmdb51": [
        ("split files", lambda r: [(r / f"S/wave_test_split{n}.txt").unlink() for n in (1, 2, 3)],
         "S: missing split files: wave_test_split1.txt, wave_test_split2.txt, wave_test_split3.txt"),
        ("nothing", lambda r: [f.unlink() for f in (r / "S").iterdir()], "S: it holds no CLASS_test_split1.txt"),
        ("video", lambda r: (r / "V/hug/huga b.avi").unlink(), "V: 1 of 204 videos are missing: hug/huga b.avi; "),
        ("class", lambda r: [write(r / f"S/waves_test_split{n}.txt", ["a.avi 1", "b.avi 2"]) for n in (1, 2, 3)],
         "S: classes that are not in the class list: waves"),
        ("blank line", lambda r: replace(r / "S/eat_test_split1.txt", "2 \n", "2 \n\n"),
         "S/eat_test_split1.txt:3: blank line"),
        ("mark", lambda r: replace(r / "S/eat_test_split1.txt", "avi 2", "avi 3"),
         "S/eat_test_split1.txt:2: expected `video.avi 0|1|2`, got 'eat(HQ)_[x]__!!!_-_vs._0.avi 3'"),
        ("0-based marks", lambda r: replace(r / "S/eat_test_split1.txt", "avi 2", "avi 0"),
         "S/eat_test_split1.txt: no test video; expected the marks 1 (training), 2 (test) and 0 (unused)"),
        ("train and test", lambda r: replace(r / "S/eat_test_split2.txt", "eat(HQ)_[x]__!!!_-_vs._0", "eata b"),
         "videos listed twice: eat/eata b.avi (S/eat_test_split2.txt:1 and S/eat_test_split2.txt:2)"),
        ("wrong folder", lambda r: (r / "V/sit/sita b.avi").rename(r / "V/stand/sita b.avi"),
         "S/sit_test_split1.txt:1: label 37 (sit), but stand/sita b.avi lies in the folder of class 42 (stand)"),
    ],
    "kinetics400": [
        ("split file", lambda r: (r / "S/val.csv").unlink(), "S: missing split files: val.csv"),
        ("video", lambda r: (r / "V/train/_Qe=LkBsz2Q_000000_000010.mp4").unlink(),
         "V: 1 of 5 videos are missing: zumba/_Qe=LkBsz2Q_000000_000010.mp4; "),
        ("class", lambda r: replace(r / "S/val.csv", "\nzumba", "\nZumbaa"),
         "S: classes that are not in the class list: Zumbaa"),
        ("lost class", lambda r: write(r / "S/train.csv", ["label,youtube_id,time_start,time_end", "zumba,x,0,10"]),
         "S: classes of the class list that it lacks: passing American football (in game)"),
        ("blank line", lambda r: replace(r / "S/val.csv", "val\n", "val\n\n"), "S/val.csv:3: blank line"),
        ("header", lambda r: replace(r / "S/val.csv", "youtube_id", "id"), "S/val.csv:1: expected the header label,"),
        ("no header", lambda r: write(r / "S/val.csv", ["zumba,abcdefghijk,3,13,val"]),
         "S/val.csv:1: expected the header label,"),
        ("time", lambda r: replace(r / "S/val.csv", ",40,", ",4o,"),
         "S/val.csv:3: expected label,youtube_id,time_start,time_end,split, got 'air drumming,lmnopqrstuv,4o,50,val'"),
        ("cells", lambda r: replace(r / "S/val.csv", ",50,val", ",50"), "S/val.csv:3: expected label,"),
        ("long cell", lambda r: replace(r / "S/val.csv", ",50,val", f",{'5' * 200_000},validate,"), "S/val.csv:3: "),
        ("split", lambda r: replace(r / "S/val.csv", "50,val", "50,train"),
         "S/val.csv:3: split 'train' among the videos of val"),
        ("train and val", lambda r: write(r / "S/val.csv", ["label,youtube_id,time_start,time_end",
                                                           "zumba,_Qe=LkBsz2Q,0,10"]),
         "videos listed twice: train/_Qe=LkBsz2Q_000000_000010.mp4 (S/train.csv:3 and S/val.csv:2)"),
    ],
    "ssv2": [
        ("split file", lambda r: (r / "S/something-something-v2-train.json").unlink(),
         "S: missing split files: something-something-v2-train.json"),
        ("video", lambda r: (r / "V/9.webm").unlink(), "V: 1 of 3 videos are missing: 9.webm; "),
        ("class", lambda r: replace(r / "S/something-something-v2-train.json", "Closing [", "Opening ["),
         "S/something-something-v2-train.json: entry 1: template 'Opening something' is not in something-"),
        ("1-based labels", lambda r: replace(r / "S/something-something-v2-labels.json", '"0"', '"3"'),
         "S/something-something-v2-labels.json: expected the labels 0..2, each once; they count from 0"),
        ("json", lambda r: replace(r / "S/something-something-v2-train.json", "}, {", "},\n\n {]"),
         "S/something-something-v2-train.json:3: not JSON: "),
        ("entry", lambda r: replace(r / "S/something-something-v2-train.json", '"id": "8"', '"idd": "8"'),
         "S/something-something-v2-train.json: entry 2: expected an id and a template, got "),
        ("train and test", lambda r: replace(r / "S/something-something-v2-validation.json", "9", '"7"'),
         "videos listed twice: 7.webm (S/something-something-v2-train.json: entry 1 and "),
    ],
    "lists": [
        ("lists", lambda r: [f.unlink() for f in (r / "S").glob("*.txt")], "S: it holds no .txt list"),
        ("names", lambda r: (r / "S/labels.csv").unlink(), "S: expected one .csv of class names, got 0"),
        ("video", lambda r: (r / "V/climb_stairs/x 3.avi").unlink(),
         "V: 2 of 8 videos are missing: climb_stairs/x 3,"),
        ("label", lambda r: replace(r / "S/full.txt", "avi 1", "avi 2"),
         "S/full.txt:3: label 2 is outside 0..1; labels count from 0"),
        ("1-based labels", lambda r: replace(r / "S/val_rgb_split_1.txt", "12 0", "12 1"),
         "S/val_rgb_split_1.txt:1: label 1 (climb stairs), but brush_hair/c d_1 lies in the folder of class 0 (brush"),
        ("blank line", lambda r: replace(r / "S/full.txt", "avi 0\n", "avi 0\n\n"), "S/full.txt:2: blank line"),
        ("count", lambda r: replace(r / "S/val_rgb_split_1.txt", " 12 0", " 0"),
         "S/val_rgb_split_1.txt:2: expected `path label` as in the other lines, got 'climb_stairs/y_4 7 1'"),
        ("no label", lambda r: replace(r / "S/full.txt", "avi 0", "avi"), "S/full.txt:1: expected `path label`, got "),
        ("train and val", lambda r: replace(r / "S/val_rgb_split_1.txt", "c d_1", "a [b]_vs._0"),
         "videos listed twice: brush_hair/a [b]_vs._0.avi (S/train_rgb_split_1.txt:1 and S/val_rgb_split_1.txt:1);"),
        ("encoding", lambda r: (r / "S/full.txt").write_bytes(b"gr\xf6\xdfe.avi 0\n"),
         "S/full.txt: not a text file in UTF-8"),
    ],
}  # fmt: skip


@pytest.mark.parametrize(
    ("layout", "break_it", "message"),
    [pytest.param(name, call, text, id=f"{name}-{what}") for name, rows in BROKEN.items() for what, call, text in rows],
)
def test_broken_input_is_named_and_nothing_is_written(tmp_path, layout, break_it, message):
    keywords = MAKERS[layout](tmp_path)
    break_it(tmp_path)
    with pytest.raises(ManifestError) as caught:
        run(tmp_path, keywords)
    text = str(caught.value).replace(f"{tmp_path}{os.sep}", "")
    assert text.startswith(message) and "\n" not in text
    assert sorted(path.name for path in tmp_path.iterdir()) == ["S", "V"]


def test_missing_videos_can_be_left_out_and_are_listed(tmp_path):
    keywords = kinetics400(tmp_path)
    (tmp_path / "V/train/_Qe=LkBsz2Q_000000_000010.mp4").unlink()
    report = run(tmp_path, keywords, missing="list")
    assert report["missing"] == ["zumba/_Qe=LkBsz2Q_000000_000010.mp4"]
    assert (report["lists"]["train"]["videos"], report["lists"]["train"]["missing"]) == (2, 1)
    assert report["lists"]["train"]["empty_classes"] == ["zumba"] and "1 missing" in summary(report)
    assert len(labelled(tmp_path, "train")) == 2
    lost = read_manifest(tmp_path / "out" / "missing.csv", classes=report["classes"], select="train")
    assert [(record.path.name, record.label) for record in lost] == [("_Qe=LkBsz2Q_000000_000010.mp4", 2)]
    for path in (tmp_path / "V" / "val").rglob("*.mp4"):
        path.unlink()
    with pytest.raises(ManifestError, match="no video of val is there"):
        run(tmp_path, keywords, missing="list", out=tmp_path / "other")
    assert list(run(tmp_path, keywords, missing="list", out=tmp_path / "o", only=["train"])["lists"]) == ["train"]


def test_duplicates_are_found_among_missing_videos_too(tmp_path):
    keywords = ucf101(tmp_path)
    replace(tmp_path / "S" / "testlist01.txt", "YoYo_g01", "YoYo_g02")
    (tmp_path / "V/YoYo/v_YoYo_g02_c01.avi").unlink()
    with pytest.raises(ManifestError, match="videos listed twice: YoYo/v_YoYo_g02_c01"):
        run(tmp_path, keywords, missing="list")


@pytest.mark.parametrize("layout", ["ucf101", "hmdb51"])
def test_only_some_lists_need_only_their_files(tmp_path, layout):
    keywords = MAKERS[layout](tmp_path)
    whole = run(tmp_path, keywords)
    for file in [*(tmp_path / "S").glob("*list0[13].txt"), *(tmp_path / "S").glob("*_split[13].txt")]:
        file.unlink()
    part = run(tmp_path, keywords, only=["test2"], out=tmp_path / "part")
    assert part["lists"] == {"test2": whole["lists"]["test2"]}
    with pytest.raises(ManifestError, match="there is no list tests2; choose from train1, test1, train2, "):
        run(tmp_path, keywords, only=["tests2"], out=tmp_path / "p")
    with pytest.raises(ManifestError, match="missing split files: "):
        run(tmp_path, keywords, only=["all"], out=tmp_path / "p")


def test_an_interrupted_write_leaves_nothing(tmp_path, monkeypatch):
    keywords, written = ssv2(tmp_path), Counter()
    real = Path.write_bytes

    def full_disk(path, *arguments, **more):
        written["files"] += 1
        if written["files"] == 3:
            raise OSError("no space left on device")
        return real(path, *arguments, **more)

    monkeypatch.setattr(Path, "write_bytes", full_disk)
    with pytest.raises(OSError, match="out: cannot be written: no space left"):
        run(tmp_path, keywords)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["S", "V"]


def test_an_existing_folder_is_kept(tmp_path):
    keywords = ssv2(tmp_path)
    (tmp_path / "out").mkdir()
    run(tmp_path, keywords)  # an empty one may be filled
    (tmp_path / "out" / "mine.txt").touch()
    with pytest.raises(FileExistsError, match="already there and not empty"):
        run(tmp_path, keywords)
    assert (tmp_path / "out" / "mine.txt").exists()


def test_wrong_arguments_are_named(tmp_path):
    with pytest.raises(ValueError, match=r"ucf101, hmdb51, .*lists; .*got 'ucf11', 'error'"):
        prepare("ucf11", videos=tmp_path, splits=tmp_path, out=tmp_path / "o")
    for name in ("V", "S"):
        with pytest.raises(ManifestError, match=rf"{name}: there is no such folder"):
            run(tmp_path, {"layout": "ucf101"})
        (tmp_path / name).mkdir()
    assert set(MAKERS) <= set(VIDEOS)


def test_names_a_list_cannot_hold_are_refused(tmp_path):
    keywords = ssv2(tmp_path)
    (tmp_path / "V" / "9.webm").unlink()
    touch(tmp_path / "V" / " odd" / "9.webm")
    with pytest.raises(ManifestError, match=r"entry 1: ' odd/9.webm' cannot be written in a list; rename the file"):
        run(tmp_path, keywords)


def test_linked_folders_are_searched_once(tmp_path):
    touch(tmp_path / "disk" / "a" / "x.mp4", tmp_path / "V" / "y.avi", tmp_path / "V" / "note.txt")
    (tmp_path / "V" / "train").symlink_to(tmp_path / "disk")
    (tmp_path / "disk" / "loop").symlink_to(tmp_path / "disk")
    videos = Videos(tmp_path / "V")
    assert videos.find("a/x.webm") == "train/a/x.mp4"
    assert videos.find("elsewhere/y.avi") == "y.avi"
    assert videos.find("note.txt") is None

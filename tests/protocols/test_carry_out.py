"""Protocols through the command line: three splits, halves, lists that are wrong, and what the results say."""

import csv
import json
import math
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from command_line import fails, mote
from made_videos import CLASSES, write_ucf101

from mote import load
from mote.config import load as load_config
from mote.datasets.lists.manifest import Record, read_class_names
from mote.datasets.video import VideoDataset
from mote.parallel.accelerator import make_accelerator
from mote.protocols import carry_out
from mote.protocols.carry_out import Share, run_protocol
from mote.protocols.lists import find_lists
from mote.protocols.table import PROTOCOLS

# Its words are names of UCF101, which the built-in CLIP spells in letters.
pytestmark = pytest.mark.filterwarnings("ignore:tiny CLIP has no token:UserWarning")
TUNED = ("archery", "bowling", "red star moving left")  # the first two are classes of UCF101 as well


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    """A run tuned on three classes, and UCF101 with four videos in each of three test lists, in folders by class."""
    home = tmp_path_factory.mktemp("world")
    videos, splits = home / "videos", home / "ucfTrainTestlist"
    write_ucf101(videos, splits)
    where = ("--videos", videos, "--splits", splits, "--out", home / "lists")
    assert mote("data", "prepare", "ucf101", *where) == 0
    (home / "tuned.txt").write_text("\n".join(TUNED) + "\n")
    (home / "train.txt").write_text("videos/Archery/v0.mp4 0\nvideos/Bowling/v0.mp4 1\n")
    settings = [f"data.train={home / 'train.txt'}", f"data.classes={home / 'tuned.txt'}", f"run.out={home / 'run'}"]
    settings += ["model.layers=1", "optim.epochs=1", "optim.warmup_epochs=0", "optim.batch_size=2", "data.workers=0"]
    settings += [
        "evaluation.page=false",
        "evaluation.clips=1",
        "evaluation.fusion=reference",
        "evaluation.alpha=0.5",
        "data.frames=4",
    ]
    assert mote("train", *settings) == 0
    return home


def evaluate(world: Path, protocol: str, out: Path, *more: str | Path) -> dict:
    where = ("--lists", world / "lists", "--out", out)
    assert mote("eval", world / "run", "--protocol", protocol, *where, *more) == 0
    return json.loads((out / f"{protocol.partition('@')[0]}.json").read_text())


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def copied(world: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(world / "lists", tmp_path / "lists"))


def checks(result: Path, capsys, *model: Path) -> dict[str, str]:
    """What `mote eval --verify` says, `file: what` -> difference; the exit code tells whether there is one."""
    capsys.readouterr()
    code = mote("eval", *model, "--verify", result)
    lines = [line.split(": ", 2) for line in capsys.readouterr().out.splitlines()[:-1]]
    found = {f"{file}: {what}": difference for file, what, difference in lines if difference != "as stated"}
    assert code == int(bool(found))
    return found


def test_three_splits_give_mean_and_population_std_and_say_which_rules_they_obeyed(world, tmp_path, capsys):
    agreeing = ("evaluation.clips=3", "evaluation.alpha=1", "evaluation.batch_size=3")
    result = evaluate(world, "ucf101-zs@1", tmp_path, *agreeing)
    out, err = capsys.readouterr()
    accuracy = [np.mean([int(row["correct"]) for row in rows(tmp_path / f"ucf101-zs-test{n}.csv")]) for n in (1, 2, 3)]
    mean = sum(accuracy) / 3
    assert result["top1"] == pytest.approx(mean)
    assert result["top1_std"] == pytest.approx(math.sqrt(sum((a - mean) ** 2 for a in accuracy) / 3))
    assert result["protocol"]["identifier"] == "ucf101-zs@1" and result["protocol"]["digest"] in out
    assert "test2.txt: 4 videos, the protocol expects 3734" in err
    assert any("test3.txt: 4 videos" in line for line in result["protocol"]["departures"])
    one = json.loads((tmp_path / "ucf101-zs-test2.json").read_text())
    settings = one["provenance"]["config"]["evaluation"]
    chosen = [settings[key] for key in ("clips", "crops", "fusion", "modulation", "alpha")]
    assert chosen == [3, 1, "mean_softmax", True, 1.0]  # not those of the run
    assert one["provenance"]["config"]["data"]["frames"] == 8
    assert one["protocol"]["list"] == "test2" and one["num_classes"] == 101
    # the page of all lists
    lists = {name: json.loads((tmp_path / f"ucf101-zs-{name}.json").read_text()) for name in result["lists"]}
    carry_out._write(tmp_path, {**result, "lists": lists}, page=True)
    page = (tmp_path / "ucf101-zs" / "index.html").read_text()
    assert f"{100 * mean:.1f} ± {100 * result['top1_std']:.1f}" in page and "test3.txt: 4 videos" in page
    for name, right in zip(lists, accuracy, strict=True):
        low, high = (100 * end for end in lists[name]["top1_interval"])
        assert re.search(rf"{name}</td>.*?{100 * right:.1f}\W.{{0,40}}\[{low:.1f}, {high:.1f}\]", page, re.DOTALL)
    carry_out._write(tmp_path, {**result, "lists": lists})
    assert not (tmp_path / "ucf101-zs" / "index.html").exists()  # of older numbers
    # and the accuracy without the class names of tuning
    assert "2 of 101 class names occur among the classes of tuning; without their videos" in out
    known = json.loads((tmp_path / "ucf101-zs-test1.json").read_text())["overlap"]
    assert [match["b_name"] for match in known["names"]] == ["archery", "bowling"]
    kept = [row for row in rows(tmp_path / "ucf101-zs-test1.csv") if row["label"] not in ("archery", "bowling")]
    assert known["without"]["listed"] == len(kept) == 2
    assert known["without"]["top1_correct"] == sum(int(row["correct"]) for row in kept)


def test_a_model_without_features_of_its_classes_is_scored_without_the_gate_and_it_is_said(world, tmp_path):
    classifier = replace(load(str(world / "run")), tuned_text=None)
    config = load_config([world / "run" / "config.yaml"], ["evaluation.cache=null", "evaluation.page=false"])
    protocol = PROTOCOLS["ucf101-zs"]
    lists = find_lists(protocol, str(world / "lists"), None)[:1]
    shares = [Share(classifier, config, lists)]
    result = run_protocol(shares, protocol, make_accelerator("fp32", cpu=True), tmp_path)
    assert any("temporal feature modulation is off" in line for line in result["protocol"]["departures"])
    one = json.loads((tmp_path / "ucf101-zs-test1.json").read_text())
    assert one["provenance"]["config"]["evaluation"]["modulation"] is False
    with pytest.raises(ValueError, match="stores no features; leave it off"):
        classifier.scorer(["a", "b"], True)


def test_ten_halves_equal_a_recount_from_the_logits_of_every_view(world, tmp_path):
    result = evaluate(world, "ucf101-half@1", tmp_path)
    model = load(str(world / "run"))
    names = read_class_names(CLASSES / "ucf101.csv")
    listed = [line.split() for line in (world / "lists" / "all.txt").read_text().splitlines()]
    records = [Record(world / "videos" / path, int(label)) for path, label in listed]
    views = VideoDataset(records, num_frames=8, size=64, train=False, num_clips=3)
    score = model.scorer(names, True)
    means = [score({"frames": item["frames"][None]})[0].double().mean(0).tolist() for item in views]
    accuracies = []
    for seed in range(10):
        half = np.random.RandomState(seed).permutation(101)[:50].tolist()
        present = [label for label in half if any(record.label == label for record in records)]
        rows = [(mean, r.label) for mean, r in zip(means, records, strict=True) if r.label in half]
        right = [max(present, key=lambda k, mean=mean: mean[k]) == label for mean, label in rows]
        accuracies.append(sum(right) / len(right))
    assert 0 < min(accuracies) < max(accuracies)
    assert result["top1"] == pytest.approx(np.mean(accuracies))
    assert result["top1_std"] == pytest.approx(np.std(accuracies))  # numpy's is that of the population
    assert "10 halves" in result["over"] and result["listed"] == 16


def test_a_missing_split_file_is_one_line_that_names_it(world, tmp_path, capsys):
    lists = copied(world, tmp_path)
    (lists / "test2.txt").unlink()
    error = fails(capsys, "eval", world / "run", "--protocol", "ucf101-zs", "--lists", lists, "--out", tmp_path / "out")
    assert f"there is no {lists / 'test2.txt'}" in error and not (tmp_path / "out").exists()
    gone = tmp_path / "nowhere"
    for given, message in (
        (gone, f"{gone}: there is no such file or folder; ucf101-zs@1 needs test1.txt, "),
        (lists / "test1.txt", "has 3 lists (test1.txt, test2.txt, test3.txt), got 1; name their folder, or"),
    ):
        error = fails(capsys, "eval", world / "run", "--protocol", "ucf101-zs", "--lists", given)
        assert message in error, error


def test_a_wrong_class_order_is_named(world, tmp_path, capsys):
    command = ("eval", world / "run", "--protocol", "ucf101-zs", "--out", tmp_path / "out", "--lists")
    lists = copied(world, tmp_path)
    lines = (lists / "classes.csv").read_text().splitlines()
    lines[3], lines[4] = lines[4], lines[3]  # below the header: classes 2 and 3
    (lists / "classes.csv").write_text("\n".join(lines) + "\n")
    error = fails(capsys, *command, lists)
    assert "the same classes in another order" in error and "class 2 is 'baby crawling', there it is 'archery'" in error
    override = f"evaluation.classes={lists / 'classes.csv'}"
    assert "in another order" in fails(capsys, *command, world / "lists", override)
    shutil.copy(CLASSES / "ucf101.csv", lists / "classes.csv")
    text = (lists / "test1.txt").read_text()
    (lists / "test1.txt").write_text(text.replace(" 2\n", " 3\n").replace(" 15\n", " 16\n"))
    error = fails(capsys, *command, lists)
    assert "test1.txt" in error and "label 3 (baby crawling) but lies in the folder of class 2 (archery)" in error
    assert "so do 2 of 4 files" in error
    assert not (tmp_path / "out").exists()


def test_a_wrong_class_order_is_named_without_a_protocol(world, tmp_path, capsys):
    (tmp_path / "classes.txt").write_text("\n".join(sorted(read_class_names(CLASSES / "ucf101.csv"), reverse=True)))
    where = (f"evaluation.manifest={world / 'lists' / 'test1.txt'}", f"evaluation.root={world / 'videos'}")
    error = fails(capsys, "eval", "tiny", *where, f"evaluation.classes={tmp_path / 'classes.txt'}")
    assert "lies in the folder of class 98 (archery)" in error


def test_a_video_in_training_and_test_list_or_twice_in_one_is_named(world, tmp_path, capsys):
    lists, out = copied(world, tmp_path), tmp_path / "out"
    command = ("eval", world / "run", "--protocol", "ucf101-zs", "--lists", lists, "--out", out)
    test = (lists / "test1.txt").read_text()
    (lists / "train1.txt").write_text((lists / "train1.txt").read_text() + test.splitlines()[2] + "\n")
    error = fails(capsys, *command)
    assert "test1.txt: 1 of its videos are also in" in error and "MoppingFloor/v1.mp4" in error
    (lists / "train1.txt").unlink()
    (lists / "test1.txt").write_text(test + test.splitlines()[1] + "\n")
    assert "Bowling/v1.mp4" in fails(capsys, *command) and not out.exists()


def test_a_video_under_another_name_in_the_training_list_is_a_departure(world, tmp_path):
    videos = Path(shutil.copytree(world / "videos", tmp_path / "videos"))
    shutil.copy(videos / "Bowling" / "v2.mp4", videos / "Bowling" / "v0.mp4")  # of a training group
    lists = world / "lists"
    one, two, _ = find_lists(PROTOCOLS["ucf101-zs"], str(lists), str(videos))
    twin = f"{videos / 'Bowling' / 'v2.mp4'} (as {videos / 'Bowling' / 'v0.mp4'})"
    assert f"{lists / 'test2.txt'}: 1 videos have a twin of equal content in {lists / 'train2.txt'}: {twin}" in (
        two.departures
    )
    assert [line for line in one.departures if "twin" in line] == []


def test_test_videos_of_the_run_s_own_training_are_named(world, tmp_path, capsys):
    where = (f"evaluation.manifest={world / 'train.txt'}", "--out", tmp_path)
    assert mote("eval", world / "run", *where) == 0
    assert "2 videos are also in the training list" in capsys.readouterr().err
    assert len(json.loads((tmp_path / "eval.json").read_text())["warnings"]) == 1


def test_settings_that_contradict_the_protocol_are_refused(world, capsys):
    command = ("eval", world / "run", "--protocol", "ucf101-zs", "--lists", world / "lists")
    error = fails(capsys, *command, "evaluation.clips=1", "evaluation.manifest=a.txt", "data.frames=16")
    assert "evaluation.clips=1 (the protocol: 3)" in error and "data.frames=16 (the protocol: 8)" in error
    assert "evaluation.manifest (give --lists)" in error and "evaluation.alpha" not in error
    for more, message in (
        (("--subset", "test"), "it has no subsets"),
        (("--protocol", "k600-zs"), "say which videos its lists hold: validation or test"),
        (("--protocol", "ucf101-zs@2"), "ucf101-zs@1"),
    ):
        assert message in fails(capsys, *command, *more)
    assert "--lists" in fails(capsys, *command[:4])


@pytest.mark.slow
def test_added_classes_compete_and_what_fell_on_them_is_counted(world, tmp_path, capsys):
    (tmp_path / "other.txt").write_text("Sky Diving\nred star moving left\nred star moving right\nskydiving\n")
    result = evaluate(world, "ucf101-zs", tmp_path, "--union-labels", tmp_path / "other.txt")
    assert any("compete as well" in line for line in result["protocol"]["departures"])
    assert "2 classes added" in capsys.readouterr().out
    union = json.loads((tmp_path / "ucf101-zs-test1.json").read_text())
    assert (union["num_classes"], union["union"]["num_own"], union["union"]["num_other"]) == (103, 101, 2)
    fell = sum(row["predicted"].startswith("red star") for row in rows(tmp_path / "ucf101-zs-test1.csv"))
    assert union["union"]["fell_on_other_count"] == fell > 0
    (tmp_path / "same.txt").write_text("SkyDiving\n")
    command = ("eval", world / "run", "--protocol", "ucf101-zs", "--lists", world / "lists", "--out", tmp_path)
    assert "the union adds nothing" in fails(capsys, *command, "--union-labels", tmp_path / "same.txt")


@pytest.mark.slow
def test_three_lists_of_one_s_own_with_a_class_file_each(world, tmp_path, capsys):
    for n, name in enumerate(("archery", "bowling", "sky diving"), 1):
        folder = name.title().replace(" ", "")
        (tmp_path / f"split{n}.txt").write_text(f"{folder}/v0.mp4 1\n{folder}/v1.mp4 1\n")
        (tmp_path / f"split{n}_classes.{'csv' if n == 1 else 'txt'}").write_text(
            f"0,red star\n1,{name}\n" if n == 1 else f"red star\n{name}\n"
        )
    common = ("eval", world / "run", "--protocol", "k600-zs", "--root", world / "videos", "--out", tmp_path)
    files = ",".join(str(tmp_path / f"split{n}.txt") for n in (1, 2, 3))
    digests = []
    for subset, lists, count in (("test", tmp_path, 14858), ("validation", files, 7276)):
        assert mote(*common, "--lists", lists, "--subset", subset) == 0
        error = capsys.readouterr().err
        assert f"split1.txt: 2 videos, the protocol expects {count}" in error
        assert "split1_classes.csv: 2 classes, the protocol expects 160" in error
        block = json.loads((tmp_path / "k600-zs.json").read_text())["protocol"]
        assert block["subset"] == subset
        digests.append(block["digest"])
    assert digests[0] != digests[1]
    (tmp_path / "split3_classes.txt").unlink()
    error = fails(capsys, *common, "--lists", tmp_path, "--subset", "test")
    assert "split3.txt: no class file beside it" in error


@pytest.mark.slow
def test_a_folder_with_a_subfolder_per_class_is_a_protocol_s_list(world, tmp_path):
    assert mote("eval", "tiny", "--protocol", "folder-zs", "--lists", world / "videos", "--out", tmp_path) == 0
    one = json.loads((tmp_path / "folder-zs-test.json").read_text())
    assert (one["listed"], one["num_classes"]) == (16, 4)
    assert "modulation" not in str(one["protocol"]["departures"])
    words = ["Archery", "Bowling", "Mopping Floor", "Sky Diving"]
    assert [row["class"] for row in one["per_class"]] == words
    assert any("MoppingFloor -> Mopping Floor, SkyDiving -> Sky Diving" in line for line in one["warnings"])
    run = ("eval", world / "run", "--protocol", "folder-zs", "--lists", world / "videos", "--out", tmp_path / "tuned")
    assert mote(*run, "data.resize=squash", "data.difference=1") == 0  # the folder's classes, not those of the run
    tuned = json.loads((tmp_path / "tuned" / "folder-zs-test.json").read_text())
    assert [row["class"] for row in tuned["per_class"]] == words
    joint = json.loads((tmp_path / "tuned" / "folder-zs.json").read_text())["protocol"]["departures"]
    own = ["data.difference=1, the model's own is 0", "data.resize=squash, the model's own is shortest"]
    assert tuned["protocol"]["departures"][-2:] == joint[-2:] == own
    assert not any("the model's own" in line for line in one["protocol"]["departures"])


def test_missing_videos_are_counted_before_a_model_is_loaded(world, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("mote.protocols.carry_out.load_video", None)
    monkeypatch.setattr("mote.inference.loading.load", None)
    where = ("--lists", world / "lists", "--root", tmp_path)
    error = fails(capsys, "eval", "tiny", "--protocol", "ucf101-zs", *where)
    assert "test1.txt: 4 of 4 files are missing, the first is" in error and "say with --root" in error
    (tmp_path / "list.txt").write_text(f"{world / 'videos/Archery/v0.mp4'} 0\nabsent.mp4 1\n")
    error = fails(capsys, "eval", "tiny", f"evaluation.manifest={tmp_path / 'list.txt'}")
    assert "list.txt: 1 of 2 files are missing, the first is" in error and "evaluation.root" in error
    error = fails(capsys, "eval", "tiny", f"evaluation.manifest={tmp_path / 'no.txt'}")
    assert "evaluation.manifest=" in error and "there is no such file" in error


def test_protocols_are_listed_with_their_hashes(capsys):
    assert mote("eval", "--protocols") == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 20 and all(len(line.split()[-1]) == 64 for line in lines[2:])
    assert "give a model" in fails(capsys, "eval")


def test_a_result_is_verified_and_what_differs_is_named(world, tmp_path, capsys):
    (tmp_path / "other.txt").write_text("red star moving left\n")
    lists, home = copied(world, tmp_path), tmp_path / "out"
    run = Path(shutil.copytree(world / "run", tmp_path / "run"))
    command = ("eval", run, "--protocol", "ucf101-half", "--lists", lists, "--out", home)
    assert mote(*command, "--union-labels", tmp_path / "other.txt") == 0
    result, one = home / "ucf101-half.json", "ucf101-half-all.json"
    assert checks(result, capsys) == {}
    table = home / "ucf101-half-all.csv"
    before = table.read_text()
    table.write_text(before.replace(",0,1,", ",1,1,").replace("archery", "archers"))
    found = checks(result, capsys)
    assert set(found) == {f"{one}: predictions", f"{one}: numbers"}
    assert all(what in found[f"{one}: numbers"] for what in ("rows contradict themselves", "per_class", "halves.mean"))
    table.write_text(before)
    document = json.loads((home / one).read_text())
    document["protocol"]["fields"]["clips"] = 1
    document["union"]["fell_on_other_count"] += 1
    (home / one).write_text(json.dumps(document))
    found = checks(result, capsys)
    assert set(found) == {f"ucf101-half.json: {one}", f"{one}: protocol", f"{one}: numbers"}
    assert "clips is 1, not 3" in found[f"{one}: protocol"] and "union" in found[f"{one}: numbers"]


def test_files_behind_a_result_that_changed_or_went_away_are_named(world, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)  # the result has relative paths, and is verified from elsewhere
    run = Path(shutil.copytree(world / "run", "run"))
    Path("prompts.txt").write_text("a {} now\n")
    Path("classes.txt").write_text("red star\narchery\nbowling\n")
    Path("list.txt").write_text("Archery/v0.mp4 1\nBowling/v0.mp4 2\n")
    settings = ("manifest=list.txt", "classes=classes.txt", "templates=prompts.txt", "alpha=0.5")
    settings = [f"evaluation.{one}" for one in (*settings, f"root={world / 'videos'}")]
    assert mote("eval", "run", *settings, "--out", "out") == 0
    monkeypatch.chdir(world)
    result = tmp_path / "out" / "eval.json"
    assert checks(result, capsys) == {}
    run = Path(shutil.move(tmp_path / "run", tmp_path / "moved"))
    assert "run" in checks(result, capsys)["eval.json: model"]
    assert checks(result, capsys, run) == {}
    for file in ("list.txt", "prompts.txt"):
        (tmp_path / file).write_text((tmp_path / file).read_text().rstrip())  # without the last line break
    assert set(checks(result, capsys, run)) == {"eval.json: manifest"}  # prompts are compared line by line
    (tmp_path / "list.txt").unlink()
    (tmp_path / "prompts.txt").write_text("{}\n")
    (tmp_path / "classes.txt").write_text("blue star\narchery\nbowling\n")
    found = checks(result, capsys, run)
    assert set(found) == {"eval.json: manifest", "eval.json: templates", "eval.json: classes"}
    assert "list.txt: there is no such file" in found["eval.json: manifest"]
    assert set(checks(result, capsys, Path("tiny"))) >= {"eval.json: weights"}
    (tmp_path / "no.json").write_text("[]")
    assert "not a result file" in fails(capsys, "eval", "--verify", tmp_path / "no.json")
    assert "nowhere.json" in fails(capsys, "eval", "--verify", tmp_path / "nowhere.json")

"""The verbs as a user meets them: real files in, files and one-line errors out."""

import csv
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from command_line import fails, mote
from oracles import mote_reference

from mote import load
from mote.datasets.decoding.decode import read_frames
from mote.datasets.decoding.encode import write_video
from mote.datasets.sampling import segment_indices
from mote.datasets.synthetic.clips import render_clip
from mote.datasets.transforms import eval_transform
from mote.models.checkpoints import load_model
from mote.tasks.video import VideoTask

CLASSES = ("red star moving left", "red star moving right", "blue arrow growing")  # fewer than five
QUICK = (
    "evaluation.page=false",
    "model.layers=1",
    "optim.epochs=2",
    "optim.warmup_epochs=0",
    "optim.batch_size=4",
    "data.workers=0",
)
QUICK += ("data.frames=4", "data.flip=0", "optim.lr=1e-3", "evaluation.batch_size=4")


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> Path:
    """Eleven real clips of three classes, one of them a single frame; a manifest and a class file beside them."""
    folder = tmp_path_factory.mktemp("clips with a space")
    lines = []
    for i in range(11):
        thing, motion = CLASSES[i % 3].split(" ", 2)[:2], CLASSES[i % 3].split(" ", 2)[2]
        frames = render_clip(np.random.default_rng(i), " ".join(thing), motion, 1 if i == 4 else 12)
        write_video(folder / f"clip {i}.mp4", frames)
        lines.append(f"clip {i}.mp4 {i % 3}\n")
    (folder / "list.txt").write_text("".join(lines))
    (folder / "classes.txt").write_text("\n".join(CLASSES) + "\n")
    return folder


@pytest.fixture(scope="module")
def run(clips) -> Path:
    """A finished training run."""
    assert mote("train", *settings(clips), f"run.out={clips / 'run'}") == 0
    return clips / "run"


def settings(clips: Path, *more: str) -> list[str]:
    where = [f"data.train={clips / 'list.txt'}", f"data.classes={clips / 'classes.txt'}"]
    return [*QUICK, *where, f"evaluation.manifest={clips / 'list.txt'}", *more]


def test_a_run_directory_is_complete_and_its_result_explains_itself(run):
    files = {"config.yaml", "log.jsonl", "last", "best", "evaluations", "metrics.json", "metrics.csv"}
    assert files == {p.name for p in run.iterdir()}
    result = json.loads((run / "metrics.json").read_text())
    assert (result["listed"], result["scored"], result["undecodable"]) == (11, 11, [])
    low, high = result["top1_interval"]
    assert low <= result["top1"] <= high
    origin = result["provenance"]
    assert origin["config"]["model"]["layers"] == 1 and set(origin["hashes"]) == {
        "manifest", "classes", "templates", "weights", "predictions",
    }  # fmt: skip
    with (run / "evaluations" / "eval.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert sum(int(row["correct"]) for row in rows) == result["top1_correct"]


def test_eval_repeats_the_result_of_training(run, tmp_path, capsys):
    assert mote("eval", run, "--out", tmp_path) == 0
    ours, theirs = (json.loads((f).read_text()) for f in (tmp_path / "eval.json", run / "metrics.json"))
    assert ours["confusion_matrix"] == theirs["confusion_matrix"]
    assert ours["provenance"]["hashes"] == theirs["provenance"]["hashes"]
    assert "11 of 11" in capsys.readouterr().out


def test_a_run_on_differences_is_evaluated_and_predicts_on_differences(clips, tmp_path):
    out = tmp_path / "run"
    ways = ("data.difference=2", "data.sampling=dense", "data.stride=2", "optim.epochs=1", f"run.out={out}")
    assert mote("train", *settings(clips, *ways)) == 0
    with (out / "evaluations" / "eval.csv").open() as file:
        row = next(csv.DictReader(file))
    model = load(str(out))
    frames = read_frames(clips / "clip 0.mp4", [2, 4, 6, 8, 4, 6, 8, 10])  # 4 frames 2 apart, the middle of 12
    pixels = eval_transform(frames, 64)[0].int()
    batch = {"frames": (pixels[4:] - pixels[:4] + 128).clamp(0, 255).byte()[None, None]}
    expected = model.scorer(CLASSES)(batch)[0, 0].softmax(0).max().item()
    assert max(model.classify_video(clips / "clip 0.mp4").values()) == pytest.approx(expected, abs=1e-6)
    assert float(row["probability"]) == pytest.approx(expected, abs=1e-5)


def test_eval_on_new_classes_is_zero_shot(run, clips, tmp_path):
    (tmp_path / "new.txt").write_text("green ball\nyellow ring\npink heart\n")
    where = [f"evaluation.classes={tmp_path / 'new.txt'}", "evaluation.name=zs", "evaluation.crops=3"]
    assert mote("eval", run, *where, "evaluation.clips=2", "--out", tmp_path) == 0
    assert json.loads((tmp_path / "zs.json").read_text())["num_classes"] == 3


def test_plain_clip_is_evaluated_with_the_classes_of_the_manifest(clips, tmp_path):
    (tmp_path / "list.csv").write_text(
        f'path,label\n"{clips / "clip 0.mp4"}",red star\n"{clips / "clip 2.mp4"}",blue arrow\n'
    )
    where = (f"evaluation.manifest={tmp_path / 'list.csv'}", "evaluation.page=false", "--out", tmp_path)
    assert mote("eval", "tiny", *where) == 0
    assert json.loads((tmp_path / "eval.json").read_text())["listed"] == 2


def test_predict_equals_the_python_interface_and_writes_files(run, clips, tmp_path, capsys):
    video = clips / "clip 0.mp4"
    assert mote("predict", run, video, "--json", tmp_path / "p.json", "--csv", tmp_path / "p.csv") == 0
    assert str(video) in capsys.readouterr().out
    (entry,) = json.loads((tmp_path / "p.json").read_text())["videos"]
    assert entry["scores"] == load(str(run)).classify_video(video)
    assert math.isclose(sum(entry["scores"].values()), 1, abs_tol=1e-6)
    with (tmp_path / "p.csv").open() as file:
        assert next(csv.DictReader(file))["predicted"] == next(iter(entry["scores"]))


def test_a_path_that_is_not_there_is_not_looked_for_on_the_hub(clips, tmp_path, capsys, monkeypatch):
    def download(*_arguments):
        raise AssertionError("asked the Hub")

    monkeypatch.setattr("mote.inference.loading.download", download)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models").mkdir()
    for name in ("runs/typo", "./typo", "models/typo", "../a/b", str(tmp_path / "typo")):
        assert f"{name}: there is no such run directory" in fails(capsys, "predict", name, clips / "clip 0.mp4")


def test_predict_reports_a_bad_file_goes_on_and_exits_with_1(run, clips, tmp_path, capsys):
    (tmp_path / "a.mp4").write_text("this is text")
    (tmp_path / "b.mp4").write_bytes((clips / "clip 0.mp4").read_bytes())
    assert mote("predict", run, tmp_path, "--labels", "red star,blue ball") == 1
    out, err = capsys.readouterr()
    assert "b.mp4: " in out and "a.mp4" not in out
    assert "a.mp4: cannot be decoded" in err and "1 of 2 videos" in err


def test_a_one_frame_video_gets_scores(run, clips):
    assert len(load(str(run)).classify_video(clips / "clip 4.mp4", ["red star", "blue ball"], clips=3, crops=3)) == 2


def test_undecodable_videos_are_an_error_or_counted_wrong_never_replaced(run, clips, tmp_path, capsys):
    whole = (clips / "clip 0.mp4").read_bytes()
    (tmp_path / "cut.mp4").write_bytes(whole[: len(whole) // 3])
    (tmp_path / "list.txt").write_text(f"{tmp_path / 'cut.mp4'} 0\n{clips / 'clip 0.mp4'} 0\n")
    manifest = f"evaluation.manifest={tmp_path / 'list.txt'}"
    assert "cut.mp4: cannot be decoded" in fails(capsys, "eval", run, manifest, "--out", tmp_path)
    assert not (tmp_path / "eval.json").exists()
    assert mote("eval", run, manifest, "evaluation.bad_videos=count_wrong", "--out", tmp_path) == 0
    result = json.loads((tmp_path / "eval.json").read_text())
    assert (result["listed"], result["scored"]) == (2, 1) and result["top1"] <= 0.5
    assert result["undecodable"] == [str(tmp_path / "cut.mp4")]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("optim.lrr=1", "did you mean 'lr'"),
        ("optim.epochs=many", "should be a valid integer"),
        ("data.train=nowhere.txt", "nowhere.txt"),
        ("data.classes=nowhere.txt", "nowhere.txt"),
        ("model.backbone=ViT-B-61", "ViT-B-16"),
        ("model.backbone=ViT-B-16", "openai"),
        ("model.init=nowhere", "nowhere"),
        ("optim.batch_size=12", "do not fill one batch of 12"),
        ("optim.accumulation=3", "must be a multiple"),
        ("run.select=best", "should be 'last', 'top1'"),
    ],
)
def test_a_mistake_in_training_is_one_line_and_leaves_no_model(clips, tmp_path, capsys, override, message):
    error = fails(capsys, "train", *settings(clips, f"run.out={tmp_path / 'run'}", override))
    assert message in error
    assert not (tmp_path / "run" / "best").exists() and not (tmp_path / "run" / "last").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [("", "lists no video"), ("clip 0.mp4 7\n", "list.txt:1: label 7 is outside 0..2"), ("clip 0.mp4\n", "list.txt:1")],
)
def test_a_wrong_manifest_is_named_with_its_line(clips, tmp_path, capsys, text, message):
    (tmp_path / "list.txt").write_text(text)
    where = (f"data.train={tmp_path / 'list.txt'}", f"run.out={tmp_path / 'run'}")
    assert message in fails(capsys, "train", *settings(clips, *where))


def test_an_existing_run_is_never_overwritten(run, clips, capsys):
    before = (run / "config.yaml").read_bytes()
    assert "resume" in fails(capsys, "train", *settings(clips, f"run.out={run}", "seed=5"))
    assert (run / "config.yaml").read_bytes() == before


def test_resuming_a_finished_run_changes_nothing(run):
    before = (run / "log.jsonl").read_bytes()
    assert mote("train", run, "--resume") == 0
    assert (run / "log.jsonl").read_bytes() == before


def test_bad_training_videos_stop_the_run_or_are_skipped_within_the_limit(clips, tmp_path, capsys):
    (tmp_path / "bad.mp4").write_text("text")
    listed = [f"{clips / f'clip {i}.mp4'} {i % 3}\n" for i in range(7)]
    (tmp_path / "list.txt").write_text("".join([*listed, f"{tmp_path / 'bad.mp4'} 0\n"]))
    where = (f"data.train={tmp_path / 'list.txt'}", f"run.out={tmp_path / 'run'}")
    assert "bad.mp4" in fails(capsys, "train", *settings(clips, *where))
    where = (*where[:1], f"run.out={tmp_path / 'run2'}", "data.max_bad_fraction=0.2")
    assert mote("train", *settings(clips, *where)) == 0
    records = [json.loads(line) for line in (tmp_path / "run2" / "log.jsonl").read_text().splitlines()]
    assert sum(len(record.get("skipped", ())) for record in records) == 2  # once in each of two epochs


def test_a_loss_that_is_not_finite_stops_before_the_update(clips, tmp_path, capsys, monkeypatch):
    forward = VideoTask.forward

    def broken(self, batch, generator):
        loss, terms = forward(self, batch, generator)
        return loss * math.nan, {**terms, "ce": terms["ce"] * math.nan}

    monkeypatch.setattr(VideoTask, "forward", broken)
    error = fails(capsys, "train", *settings(clips, f"run.out={tmp_path / 'run'}"))
    assert "step 1" in error and "ce nan" in error and "no update was made" in error
    assert not (tmp_path / "run" / "last").exists()


def test_frozen_tower_trains_on_cached_features(clips, tmp_path):
    where = (f"run.out={tmp_path / 'run'}", "optim.backbone_lr_scale=0", "data.cache_features=true")
    assert mote("train", *settings(clips, *where)) == 0
    tower = load_model(tmp_path / "run" / "best").model.visual.state_dict()
    plain = load("tiny").model.visual.state_dict()
    assert all(torch.equal(tower[name], plain[name]) for name in plain)


def test_the_authors_checkpoint_scores_a_video_as_the_equations_do(clips, tmp_path):
    checkpoint = mote_reference.random_checkpoint(torch.Generator().manual_seed(3), embed=96, width=192)
    torch.save(checkpoint, tmp_path / "MoTE.pt")
    model = load(str(tmp_path / "MoTE.pt"))
    scores = model.classify_video(clips / "clip 0.mp4")
    frames = read_frames(clips / "clip 0.mp4", lambda n: segment_indices(n, 8))
    views = eval_transform(frames, 16)  # patch 8, grid 2
    text = checkpoint["fusion_model_state_dict"]["spe_cls_feature"].double().numpy()
    expected = mote_reference.softmax(mote_reference.logits(checkpoint, views.numpy(), text, False)[0])
    assert [scores[f"class {i}"] for i in range(11)] == pytest.approx(list(expected), abs=1e-6)
    with pytest.raises(ValueError, match="text tower of this checkpoint is not known"):
        model.classify_video(clips / "clip 0.mp4", ["surfing"])


def test_alpha_interpolates_the_tower_with_the_original_clip(run, clips, tmp_path):
    tuned, plain = load(str(run)), load("tiny")
    name = "visual.conv1.weight"
    own, theirs = tuned.model.state_dict()[name], plain.model.state_dict()[name]
    assert not torch.equal(own, theirs)
    half = tuned.interpolated(0.5).model.state_dict()
    assert torch.allclose(half[name], (own + theirs) / 2, atol=1e-7)
    assert torch.equal(half["temporal.position"], tuned.model.state_dict()["temporal.position"])
    assert torch.equal(tuned.interpolated(0.0).model.state_dict()[name], theirs)
    where = (f"evaluation.manifest={clips / 'list.txt'}", "evaluation.alpha=0.5", "--out", tmp_path)
    assert mote("eval", run, *where) == 0
    hashes = [json.loads(f.read_text())["provenance"]["hashes"] for f in (tmp_path / "eval.json", run / "metrics.json")]
    assert hashes[0]["weights"] != hashes[1]["weights"] and hashes[0]["classes"] == hashes[1]["classes"]


def test_two_results_are_compared_on_the_same_videos(run, clips, tmp_path, capsys):
    where = (f"evaluation.manifest={clips / 'list.txt'}", f"evaluation.classes={clips / 'classes.txt'}")
    assert mote("eval", run, *where, "evaluation.name=a", "--out", tmp_path) == 0
    assert mote("eval", "tiny", *where, "evaluation.name=b", "evaluation.page=false", "--out", tmp_path) == 0
    assert mote("compare", tmp_path / "a.json", tmp_path / "b.json", "--json", tmp_path / "c.json") == 0
    report = json.loads((tmp_path / "c.json").read_text())
    a, b = (json.loads((tmp_path / f"{name}.json").read_text())["top1_correct"] for name in "ab")
    assert report["only_b"] - report["only_a"] == b - a and report["videos"] == 11
    assert "nowhere.json" in fails(capsys, "compare", tmp_path / "a.json", tmp_path / "nowhere.json")


def test_lists_are_verified_and_vocabularies_compared(clips, tmp_path, capsys):
    assert mote("data", "verify", clips / "list.txt") == 0
    (tmp_path / "bad.mp4").write_text("text")
    (tmp_path / "list.txt").write_text(f"{clips / 'clip 0.mp4'} 0\n{tmp_path / 'bad.mp4'} 1\n")
    assert mote("data", "verify", tmp_path / "list.txt", "--out", tmp_path / "unreadable.txt") == 1
    assert str(tmp_path / "bad.mp4") in (tmp_path / "unreadable.txt").read_text()
    classes = Path(__file__).parents[2] / "data" / "classes"
    capsys.readouterr()
    assert mote("data", "overlap", classes / "kinetics400.txt", classes / "ucf101.csv") == 0
    kinds = [line.split("\t")[2] for line in capsys.readouterr().out.splitlines()]
    assert sum(kind != "inflection" for kind in kinds) == 22


def test_official_splits_become_manifests_that_know_their_videos(tmp_path, capsys):
    videos, splits = tmp_path / "videos", tmp_path / "splits"
    for folder in (videos / "YoYo", videos / "Archery", splits):
        folder.mkdir(parents=True)
    for name in ("Archery/v_Archery_g01_c01.avi", "YoYo/v_YoYo_g01_c01.avi", "YoYo/v_YoYo_g09_c01.avi"):
        (videos / name).touch()
    (splits / "classInd.txt").write_text("1 Archery\n2 YoYo\n")
    for n in "123":
        lines = "Archery/v_Archery_g01_c01.avi 1\nYoYo/v_YoYo_g01_c01.avi 2\n"
        (splits / f"trainlist0{n}.txt").write_text(lines)
        (splits / f"testlist0{n}.txt").write_text("YoYo/v_YoYo_g09_c01.avi\n")
    (tmp_path / "classes.csv").write_text("id,name\nArchery,archery\nYoYo,yo yo\n")
    options = ("--videos", videos, "--splits", splits, "--classes", tmp_path / "classes.csv")
    assert mote("data", "prepare", "ucf101", *options, "--out", tmp_path / "out") == 0
    assert (tmp_path / "out" / "test1.txt").read_text() == "YoYo/v_YoYo_g09_c01.avi 1\n"
    assert mote("data", "verify", tmp_path / "out" / "test1.txt", "--workers", "1") == 1  # an empty file
    assert f"{videos / 'YoYo' / 'v_YoYo_g09_c01.avi'}: " in capsys.readouterr().out


def test_overrides_may_stand_anywhere_and_unknown_options_are_refused(run, clips, tmp_path, capsys):
    assert mote("eval", run, "evaluation.name=x", "--out", tmp_path, "evaluation.clips=2") == 0
    assert json.loads((tmp_path / "x.json").read_text())["provenance"]["config"]["evaluation"]["clips"] == 2
    assert mote("train", *settings(clips), "--out", tmp_path) == 2
    assert f"write run.out={tmp_path}" in capsys.readouterr().err


def test_config_prints_what_it_would_run(capsys):
    assert mote("config", "optim.lr=1e-4", "model.layers=0", "model.experts=2") == 0
    out, err = capsys.readouterr()
    assert "lr: 0.0001" in out and "model.experts" in err

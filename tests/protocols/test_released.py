"""Protocols that evaluate as the authors' test scripts do, on made files, against a loop from the description."""

import csv
import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from command_line import fails, mote
from made_videos import CLASSES
from oracles import mote_reference
from oracles import released_reference as oracle
from video_files import numbered_frames, write_video

from mote.datasets.lists.manifest import read_class_ids, read_class_names, read_templates

pytest.importorskip("decord")
SIZE = 64
VISION = {"image_size": SIZE, "patch_size": 32, "layers": 1, "width": 64, "head_width": 64}
TEXT = {"context_length": 24, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 1}
SIZES = {"width": 64, "patch": 32, "grid": 2, "embed": 64, "visual_layers": 1, "layers": 2, "experts": 2}
LENGTHS = (5, 9, 30)  # frames; the first is shorter than a clip
NEAR = 1e-9  # of probabilities that all are within 1e-4 of 1/K


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    """An authors' checkpoint, and its original CLIP, to which words are alike whose tokens have numbers alike mod 5."""
    home = tmp_path_factory.mktemp("released")
    config = {"embed_dim": 64, "vision_cfg": VISION, "text_cfg": TEXT, "quick_gelu": True}
    (home / "clip").mkdir()
    (home / "clip" / "open_clip_config.json").write_text(json.dumps({"model_cfg": config}))
    torch.manual_seed(0)
    clip = open_clip.create_model(f"local-dir:{home / 'clip'}", load_weights=False)
    with torch.no_grad():
        words = clip.token_embedding.weight.normal_()
        words.copy_(words[torch.arange(len(words)) % 5])
    torch.save(clip.state_dict(), home / "clip" / "open_clip_pytorch_model.bin")
    checkpoint = mote_reference.random_checkpoint(torch.Generator().manual_seed(1), **SIZES, classes=400)
    torch.save(checkpoint, home / "MoTE.pt")
    return home


def video(path: Path, number: int) -> Path:
    """MPEG-4 in AVI, as the data sets have it, whose short side needs no resizing.

    Without B frames: of small files with them, decord gives other frames in every reading.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    frames = numbered_frames(LENGTHS[number % 3], 104, SIZE)[:, :: 1 - number % 2 * 2] // (1 + number // 3)
    return write_video(path, frames, "mpeg4", b_frames=0)


@pytest.fixture(scope="module")
def ucf101(world) -> Path:
    """UCF101 in its own layout, two videos in each of the three test lists; the prepared lists."""
    ids = read_class_ids(CLASSES / "ucf101.csv") or []
    listed = [(f"{ids[k]}/v_{ids[k]}_g0{n % 3 + 1}_c01.avi", k + 1) for n, k in enumerate((2, 30, 61, 62, 77, 100))]
    for n, (path, _) in enumerate(listed):
        video(world / "UCF-101" / path, n)
    (world / "splits").mkdir()
    for k in range(3):
        lines = [f"{path}\n" for path, _ in listed[k::3]], [f"{path} {label}\n" for path, label in listed[k - 1 :: 3]]
        for name, part in zip(("testlist", "trainlist"), lines, strict=True):
            (world / "splits" / f"{name}0{k + 1}.txt").write_text("".join(part))
    (world / "splits" / "classInd.txt").write_text("".join(f"{n} {name}\n" for n, name in enumerate(ids, 1)))
    where = ("--videos", world / "UCF-101", "--splits", world / "splits", "--out", world / "lists")
    assert mote("data", "prepare", "ucf101", *where) == 0
    return world / "lists"


def evaluate(world: Path, protocol: str, lists: Path, out: Path, *more: str | Path) -> list[str | Path]:
    where = ("--lists", lists, "--out", out, "--backbone", f"local-dir:{world / 'clip'}", "--no-page")
    return ["eval", world / "MoTE.pt", "--protocol", protocol, *where, "data.workers=0", *more]


def check_rows(table: Path, names: list[str], score: Callable[[Path], np.ndarray]) -> int:
    """Compare a table of predictions with the scores of the loop; the result is how many best classes were tied."""
    tied = 0
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        expected = score(Path(row["path"]))
        best = oracle.ranking(expected)[:5]
        assert [row[f"top{n}"] for n in range(1, 6)] == [names[k] for k in best]
        found = [float(row[f"top{n}_probability"]) for n in range(1, 6)] + [float(row["label_probability"])]
        wanted = [*expected[best], expected[names.index(row["label"])]]
        np.testing.assert_allclose(found, wanted, atol=NEAR, rtol=0)
        tied += sum(expected > expected[best[0]] - 1e-12) > 1
    return tied


def test_zero_shot_numbers_are_those_of_the_loop_ties_included(world, ucf101, tmp_path):
    assert mote(*evaluate(world, "ucf101-zs-released@1", ucf101, tmp_path)) == 0
    names = read_class_names(CLASSES / "ucf101.csv")
    clip = open_clip.create_model(f"local-dir:{world / 'clip'}").eval()
    tokenizer, checkpoint = open_clip.get_tokenizer(f"local-dir:{world / 'clip'}"), torch.load(world / "MoTE.pt")

    def encode(texts: list[str]) -> np.ndarray:
        with torch.no_grad():
            return clip.encode_text(tokenizer(texts)).double().numpy()

    templates = read_templates(CLASSES.parent / "templates" / "kinetics28.txt")
    text = oracle.class_features(encode, names, templates)
    original = clip.state_dict()

    def score(path: Path, **other: float) -> np.ndarray:
        return oracle.probabilities(checkpoint, original, oracle.views(path, 3, 1, SIZE), text, **other)

    tables = [tmp_path / f"ucf101-zs-released-test{n}.csv" for n in (1, 2, 3)]
    assert sum(check_rows(table, names, score) for table in tables) > 0
    result = json.loads((tmp_path / "ucf101-zs-released.json").read_text())
    assert all("videos" in line for line in result["protocol"]["departures"])
    assert mote("eval", "--verify", tmp_path / "ucf101-zs-released.json") == 0
    first = next((world / "UCF-101").rglob("*.avi"))
    assert abs(score(first) - score(first, alpha=1)).max() > 3 * NEAR  # so alpha is seen


@pytest.mark.parametrize(
    ("views", "clips", "crops"), [("1x1", 1, 1), pytest.param("4x3", 4, 3, marks=pytest.mark.slow)]
)
def test_closed_set_numbers_are_those_of_the_loop(world, tmp_path, views, clips, crops):
    names = read_class_names(CLASSES / "kinetics400.txt")
    lines = []
    for n, label in enumerate((3, 90, 399)):
        video(world / "k400" / names[label].replace(" ", "_") / f"{n}.avi", n)
        lines.append(f"{names[label].replace(' ', '_')}/{n}.avi {label}\n")
    (world / "k400" / "val.txt").write_text("".join(lines))
    protocol = f"k400-closed-{views}-released"
    assert mote(*evaluate(world, f"{protocol}@1", world / "k400", tmp_path)) == 0
    checkpoint = torch.load(world / "MoTE.pt")
    original = torch.load(world / "clip" / "open_clip_pytorch_model.bin")
    text = checkpoint["fusion_model_state_dict"]["spe_cls_feature"].double().numpy()  # those of the classes

    def score(path: Path) -> np.ndarray:
        return oracle.probabilities(checkpoint, original, oracle.views(path, clips, crops, SIZE), text)

    check_rows(tmp_path / f"{protocol}-val.csv", names, score)
    departures = json.loads((tmp_path / f"{protocol}.json").read_text())["protocol"]["departures"]
    assert len(departures) == 1 and "3 videos, the protocol expects 19877" in departures[0]


def cannot_fetch(name: str, tag: str | None) -> None:
    raise RuntimeError(f"no way to {name}; without network, do what does not help here")


def test_what_is_missing_is_one_line(world, ucf101, tmp_path, capsys, monkeypatch):
    command = evaluate(world, "ucf101-zs-released@1", ucf101, tmp_path)
    error = fails(capsys, *command, "data.decoder=pyav", "evaluation.places=even")
    assert "data.decoder=pyav (the protocol: decord_single)" in error
    without = command[: command.index("--backbone")]
    assert "name its CLIP as backbone='name:tag' (--backbone)" in fails(capsys, *without)
    monkeypatch.setattr("mote.inference.loading.check_backbone", lambda *_, **__: None)
    monkeypatch.setattr("mote.inference.loading.load_backbone", cannot_fetch)
    fetched = fails(capsys, *without, "--backbone", "ViT-B-16-quickgelu:openai")
    assert "needs the original CLIP; give a file of its weights: --backbone ViT-B-16-quickgelu:FILE (no way" in fetched
    monkeypatch.setitem(sys.modules, "decord", None)
    monkeypatch.setattr("mote.inference.loading.load", None)
    message = "ucf101-zs-released@1 reads frames with decord, which is not installed: pip install decord2"
    assert message in fails(capsys, *command)

"""Few-shot lists and validation splits: counts, determinism, and no source of clips on both sides."""

import hashlib
import json
import time
from collections import Counter
from pathlib import Path

import pytest

from mote.cli import main
from mote.datasets.lists.manifest import ManifestError, read_manifest
from mote.datasets.lists.subsets import Clip, few_shot, read_clips, repeated, source_of, split


def ucf(groups=8, clips=3, classes=("Archery", "YoYo", "TaiChi")) -> list[Clip]:
    return [
        Clip(f"{name}/v_{name}_g{g:02}_c{c:02}.avi", str(k))
        for k, name in enumerate(classes)
        for g in range(1, groups + 1)
        for c in range(1, clips + 1)
    ]


def mote(*arguments: str | Path) -> int:
    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments])
    return int(stop.value.code or 0)


def test_few_shot_takes_k_of_every_class_whatever_the_order_of_the_list_and_is_nested():
    rows = ucf()
    chosen = {shots: few_shot(rows, shots, seed=3) for shots in (2, 4, 8, 16)}
    for shots, clips in chosen.items():
        assert Counter(clip.label for clip in clips) == {"0": shots, "1": shots, "2": shots}
        assert set(clips) <= set(rows) and len(set(clips)) == len(clips)
        assert few_shot(rows[::-1], shots, seed=3) == clips
    assert set(chosen[2]) < set(chosen[4]) < set(chosen[8]) < set(chosen[16])
    assert few_shot(rows, 4, seed=4) != chosen[4]
    assert few_shot(rows, 24, seed=0) == sorted(rows, key=lambda clip: (clip.label, clip.path))


def test_every_clip_is_drawn_about_equally_often():
    counts = Counter(clip for seed in range(300) for clip in few_shot(ucf(4, 2), 2, seed))
    assert len(counts) == 24 and all(45 <= count <= 110 for count in counts.values())  # 75 each in the mean


def test_a_class_with_too_few_clips_is_named_or_taken_as_it_is():
    rows = [*ucf(1, 3), Clip("x.avi", "7")]
    names = {"0": "archery", "1": "yo yo", "2": "tai chi", "7": "rare", "8": "never seen"}
    with pytest.raises(ManifestError, match=r"fewer than 2 clips: rare \(1\), never seen \(0\);"):
        few_shot(rows, 2, 0, names=names)
    with pytest.raises(ManifestError, match=r"fewer than 2 clips: 7 \(1\)"):
        few_shot(rows, 2, 0)
    assert Counter(clip.label for clip in few_shot(rows, 2, 0, allow_fewer=True)) == {"0": 2, "1": 2, "2": 2, "7": 1}
    with pytest.raises(ValueError, match="at least 1 shot"):
        few_shot(rows, 0, 0)


def test_repetition_reaches_the_length_and_stays_balanced():
    rows = few_shot(ucf(), 2, 0)
    long = repeated(rows, 72)
    assert len(long) == 72 and set(Counter(long).values()) == {12}
    assert repeated(rows, 3) == rows and len(repeated(rows, 7)) == 7


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("YoYo/v_YoYo_g01_c04.avi", "v_YoYo_g01"),
        ("v_HandstandPushups_g25_c07.avi", "v_HandstandPushups_g25"),
        ("brush_hair/April_09_brush_hair_u_nm_np1_ba_goo_0.avi", "April_09_brush_hair"),
        ("a/Two_Towers_4_draw_sword_h_cm_np12_le_med_13.avi", "Two_Towers_4_draw_sword"),
        ("kinetics/abc_000010_000020.mp4", "kinetics/abc_000010_000020.mp4"),
    ],
)
def test_sources_are_read_from_names(path, source):
    assert source_of(path) == source


@pytest.mark.parametrize("fraction", [0.1, 0.25, 0.5])
def test_a_split_keeps_sources_apart_and_every_class_near_its_share(fraction):
    rows = [clip for clip in ucf(20, 4) if not clip.path.endswith("g01_c04.avi")]  # groups of different sizes
    training, validation = split(rows, fraction, seed=1)
    assert sorted(training + validation) == sorted(rows)
    sources = [{(clip.label, source_of(clip.path)) for clip in part} for part in (training, validation)]
    assert not sources[0] & sources[1]
    for label in "012":
        total, held = (sum(clip.label == label for clip in part) for part in (rows, validation))
        assert abs(held - fraction * total) <= 2  # half a group
    assert split(rows[::-1], fraction, seed=1)[1][::-1] == validation
    assert split(rows, fraction, seed=2)[1] != validation


def test_a_split_without_sources_is_stratified_and_a_class_of_one_clip_stays_in_training():
    rows = [Clip(f"{k}_{i}.mp4", str(k)) for k, count in enumerate((10, 40, 1)) for i in range(count)]
    training, validation = split(rows, 0.1, 0)
    assert Counter(clip.label for clip in validation) == {"0": 1, "1": 4}
    assert Counter(clip.label for clip in training)["2"] == 1
    with pytest.raises(ValueError, match="between 0 and 1"):
        split(rows, 1.0, 0)
    with pytest.raises(ValueError, match="nothing to hold out"):
        split(rows[-1:], 0.5, 0)


def test_a_split_of_very_many_sources_takes_time_in_proportion_to_them():
    rows = [Clip(f"{i}.mp4", "0") for i in range(60_000)]
    start = time.process_time()
    training, validation = split(rows, 0.1, 0)
    assert (len(training), len(validation)) == (54_000, 6_000)
    assert time.process_time() - start < 4  # 0.3 s; a list of all sources for each of them took 30


def test_the_verbs_store_lists_with_seed_and_hashes_and_never_overwrite(tmp_path, capsys):
    listed = tmp_path / "train.txt"
    listed.write_text("".join(f"{clip.path} {clip.label}\n" for clip in ucf()))
    out = tmp_path / "few" / "k2.txt"
    assert mote("data", "few-shot", listed, "--shots", 2, "--seed", 5, "--out", out, "--repeat") == 0
    assert f"data.root={tmp_path}" in capsys.readouterr().out
    facts = json.loads((tmp_path / "few" / "k2.txt.json").read_text())
    assert (facts["shots"], facts["seed"], facts["clips"], facts["distinct"], facts["classes"]) == (2, 5, 72, 6, 3)
    assert facts["sha256"] == hashlib.sha256(out.read_bytes()).hexdigest()
    assert facts["source_sha256"] == hashlib.sha256(listed.read_bytes()).hexdigest()
    assert len(read_manifest(out, tmp_path, ["archery", "yo yo", "tai chi"])) == 72
    before = out.read_bytes()
    assert mote("data", "few-shot", listed, "--shots", 4, "--out", out) == 2
    assert "is there already" in capsys.readouterr().err and out.read_bytes() == before
    assert mote("data", "split", listed, "--fraction", 0.25, "--out", tmp_path) == 2  # train.txt is the source itself
    assert mote("data", "split", listed, "--fraction", 0.25, "--out", tmp_path / "parts") == 0
    parts = [read_clips(tmp_path / "parts" / f"{name}.txt") for name in ("train", "val")]
    assert sorted(parts[0] + parts[1]) == sorted(ucf()) and len(parts[1]) == 18
    assert json.loads((tmp_path / "parts" / "val.txt.json").read_text())["by_source"] == 72


def test_lists_with_names_and_folders_work_and_classes_without_clips_are_errors(tmp_path, capsys):
    listed = tmp_path / "all.csv"
    rows = "".join(f"{clip.path},{clip.path.split('/')[0]},train\n" for clip in ucf())
    listed.write_text(f"path,label,split\n{rows}other.avi,YoYo,test\n")
    classes = tmp_path / "classes.csv"
    classes.write_text("id,name\nArchery,archery\nYoYo,yo yo\nTaiChi,tai chi\nSurfing,surfing\n")
    options = ("--shots", 2, "--select", "train", "--out", tmp_path / "k2.csv")
    assert mote("data", "few-shot", listed, *options, "--classes", classes) == 2
    assert "surfing (0)" in capsys.readouterr().err and not (tmp_path / "k2.csv").exists()
    assert mote("data", "few-shot", listed, *options, "--classes", classes, "--allow-fewer") == 0
    ids = ["Archery", "YoYo", "TaiChi", "Surfing"]
    assert Counter(r.label for r in read_manifest(tmp_path / "k2.csv", classes=ids)) == {0: 2, 1: 2, 2: 2}
    for clip in ucf(3, 1):
        (tmp_path / "tree" / clip.path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "tree" / clip.path).touch()
    assert mote("data", "split", tmp_path / "tree", "--fraction", 0.3, "--out", tmp_path / "s") == 0
    assert f"data.root={tmp_path / 'tree'}" in capsys.readouterr().out
    assert len(read_manifest(tmp_path / "s" / "val.csv", tmp_path / "tree", ids)) == 3
    assert mote("data", "few-shot", tmp_path / "tree", "--shots", 1, "--out", tmp_path / "names.txt") == 2
    assert "choose a name with .csv" in capsys.readouterr().err

"""`mote demo faces` at a reduced size, and the three corrections at work on real clips."""

import json
from pathlib import Path

import pytest

from mote.cli import main
from mote.datasets.synthetic.faces import make_faces
from mote.demos import faces, videos

FEW = {"train": (8, 5, 4, 3, 3, 2, 2), "test": (3, 2, 2, 2, 2, 2, 2)}
pytestmark = pytest.mark.filterwarnings("ignore:tiny CLIP has no token:UserWarning")


def mote(*arguments) -> int:
    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments])
    return stop.value.code


def predicted(folder, *arguments) -> list[dict[str, float]]:
    assert mote("predict", folder / "run", *arguments, "--json", folder / "named.json") == 0
    return [one["scores"] for one in json.loads((folder / "named.json").read_text())["videos"]]


@pytest.mark.parametrize("demo", [faces.faces_demo, videos.demo])
def test_a_folder_that_no_demo_made_is_left_alone(tmp_path, demo):
    (tmp_path / "seed0").mkdir()
    (tmp_path / "seed0/mine").touch()
    with pytest.raises(FileExistsError, match="seed0: is already there and not empty"):
        demo(tmp_path)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["mine", "seed0"]


@pytest.mark.slow
def test_the_command_leaves_numbers_pictures_and_a_page(tmp_path, monkeypatch, capsys):
    original = faces.faces_demo
    quick = ["optim.epochs=1", "optim.batch_size=8", "optim.warmup_epochs=0"]
    monkeypatch.setattr(faces, "faces_demo", lambda out, seed: original(out, seed, counts=FEW, settings=quick))
    assert mote("demo", "faces", "--out", tmp_path) == 0
    results = json.loads((tmp_path / "results.json").read_text())
    assert [row["method"] for row in results["rows"]] == list(faces.METHODS)
    for row in results["rows"]:
        part = row["summary"]
        assert part["listed"] == part["scored"] == 15 and sum(map(sum, part["confusion_matrix"])) == 15
        assert part["training_counts"]["disgust"] == 2 and part["extra_knowledge"]["probability"]["mined"]
        scored = tmp_path / "seed0" / row["method"].replace(" ", "_").lower() / "evaluations" / "test"
        assert "Extra knowledge" in (scored / "index.html").read_text() and (scored / "given.svg").stat().st_size > 0
    page, printed = (tmp_path / "index.html").read_text(), capsys.readouterr().out
    for file in ("faces.png", "given.png", "mined.png", "confusion_mek.png", "table.txt"):
        assert (tmp_path / file).stat().st_size > 0
    assert results["verdict"] in printed and "WAR" in page and "seed0/mek/evaluations/test/index.html" in page


@pytest.mark.slow
def test_everything_together_takes_twenty_steps_and_posthoc_is_its_formula(tmp_path):
    files = make_faces(tmp_path / "faces", counts=FEW, num_frames=6, workers=0)
    where = [f"data.train={files.manifest}", f"data.classes={files.classes}", "data.split=train", "data.workers=0"]
    where += [f"evaluation.manifest={files.manifest}", "evaluation.split=test", "evaluation.every=10", "data.frames=4"]
    quick = ["model.layers=1", "model.experts=2", "optim.batch_size=13", "optim.epochs=10", "optim.warmup_epochs=0"]
    every = ["imbalance.method=mek", "imbalance.strength=10", "mixing.methods=[cutmix]", "r_drop.weight=1"]
    every += ["sparsity.strength=0.1", "evaluation.page=false", "run.cpu=true"]
    assert mote("train", *where, *quick, *every, f"run.out={tmp_path / 'run'}") == 0
    log = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    steps = [line for line in log if "loss" in line]
    assert len(steps) == 20 and {"ce", "merged_ce", "anchor", "r_drop", "attention"} <= set(steps[0])
    result = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert list(result["training_counts"].values()) == list(FEW["train"]) and 0 <= result["macro_f1"] <= 1
    probabilities = {}
    for method in ("none", "logit_adjustment"):
        assert mote("eval", tmp_path / "run", f"imbalance.posthoc={method}", "--out", tmp_path / method) == 0
        lines = (tmp_path / method / "eval.csv").read_text().splitlines()
        probabilities[method] = [dict(zip(lines[0].split(","), line.split(","), strict=True)) for line in lines[1:]]
    prior = result["training_counts"]
    for plain, moved in zip(probabilities["none"], probabilities["logit_adjustment"], strict=True):
        p, q = ({row[f"top{k}"]: float(row[f"top{k}_probability"]) for k in range(1, 6)} for row in (plain, moved))
        both = sorted(p.keys() & q.keys())
        ratio = [q[name] * prior[name] / p[name] for name in both]  # the same for all: its normalisation
        assert ratio == pytest.approx([ratio[0]] * len(ratio), rel=1e-4)
    config, clips = tmp_path / "run" / "config.yaml", [tmp_path / f"faces/test/disgust_000{i}.mp4" for i in (0, 1)]
    config.write_text(config.read_text().replace("posthoc: none", "posthoc: logit_adjustment"))  # as if trained so
    named = predicted(tmp_path, *clips)  # prediction corrects like evaluation
    rows = {Path(row["path"]).name: row for row in probabilities["logit_adjustment"]}
    for clip, scores in zip(clips, named, strict=True):
        for k in range(1, 6):
            row = rows[clip.name]
            assert scores[row[f"top{k}"]] == pytest.approx(float(row[f"top{k}_probability"]), abs=1e-5)
    knowledge = json.loads((tmp_path / "logit_adjustment" / "eval.json").read_text())["extra_knowledge"]["probability"]
    given = dict(zip(result["training_counts"], knowledge["given"][-1], strict=True))  # disgust is the last class
    assert given == pytest.approx({name: sum(one[name] for one in named) / 2 for name in given}, abs=1e-5)
    assert knowledge["mined"]["samples"] == sum(FEW["test"][:2]) and 0 < knowledge["mined"]["given"] < 1
    with pytest.warns(UserWarning, match="for the run's own classes: not applied"):
        predicted(tmp_path, clips[0], "--labels", "fear,disgust")
    with pytest.warns(UserWarning, match="not part of the exported file"):
        assert mote("export", tmp_path / "run", "--out", tmp_path / "run.safetensors") == 0

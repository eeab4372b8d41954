"""`mote demo faces` at a reduced size, and the three corrections at work on real clips."""

import json

import pytest

from mote import faces_demo
from mote.cli import main
from mote.datasets.synthetic_faces import make_faces

FEW = {"train": (8, 5, 4, 3, 3, 2, 2), "test": (3, 2, 2, 2, 2, 2, 2)}
pytestmark = pytest.mark.filterwarnings("ignore:tiny CLIP has no token:UserWarning")


def mote(*arguments) -> int:
    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments])
    return stop.value.code


@pytest.mark.slow
def test_the_command_leaves_numbers_pictures_and_a_page(tmp_path, monkeypatch, capsys):
    original = faces_demo.faces_demo
    quick = ["optim.epochs=1", "optim.batch_size=8", "optim.warmup_epochs=0"]
    monkeypatch.setattr(faces_demo, "faces_demo", lambda out, seed: original(out, seed, counts=FEW, settings=quick))
    assert mote("demo", "faces", "--out", tmp_path) == 0
    results = json.loads((tmp_path / "results.json").read_text())
    assert [row["method"] for row in results["rows"]] == list(faces_demo.METHODS)
    for row in results["rows"]:
        part = row["summary"]
        assert part["listed"] == part["scored"] == 15 and sum(map(sum, part["confusion_matrix"])) == 15
        assert part["training_counts"]["disgust"] == 2 and part["extra_knowledge"]["probability"]["mined"]
    page, printed = (tmp_path / "index.html").read_text(), capsys.readouterr().out
    for file in ("faces.png", "given.png", "mined.png", "confusion_mek.png", "table.txt"):
        assert (tmp_path / file).stat().st_size > 0
    assert results["verdict"] in printed and "WAR" in page and "seed0/mek/evaluations/test/index.html" in page


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

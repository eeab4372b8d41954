"""`mote train` and `mote eval` with task=expression, from real files of classes of very unequal size."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from mote.cli import main
from mote.commands.compare import _draw as draw_tables
from mote.config import ConfigError, load
from mote.config.unused import questionable, unused
from mote.evaluation.image_page import overlay
from mote.models.image_checkpoints import load_net

COUNTS = {"calm": 24, "happy": 12, "sad": 4}
QUICK = ["task=expression", "image.net=resnet8", "data.size=12", "data.workers=0", "data.crop_scale=[0.8,1]"]
QUICK += ["image.channels=1", "optim.epochs=2", "optim.warmup_epochs=0", "optim.batch_size=8", "optim.lr=3e-3"]
QUICK += ["evaluation.batch_size=16", "evaluation.every=2", "run.cpu=true", "evaluation.page=false"]


@pytest.fixture(scope="module")
def faces(tmp_path_factory) -> Path:
    """A .csv of forty pictures by class name: a bright mouth at another height for each of three classes."""
    folder, lines = tmp_path_factory.mktemp("faces"), ["path,label,split"]
    rng = np.random.default_rng(0)
    for height, (name, count) in enumerate(COUNTS.items()):
        for i in range(count + 3):
            pixels = rng.integers(0, 60, (24, 24), dtype=np.uint8)
            pixels[4 + 7 * height : 9 + 7 * height, 4:20] += 180
            Image.fromarray(pixels).save(folder / f"{name}{i}.png")
            lines.append(f"{name}{i}.png,{name},{'train' if i < count else 'test'}")
    (folder / "faces.csv").write_text("\n".join(lines) + "\n")
    return folder / "faces.csv"


def mote(*arguments) -> int:
    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments])
    return stop.value.code


def train(faces: Path, out: Path, *overrides: str) -> int:
    where = [f"data.train={faces}", "data.split=train", f"evaluation.manifest={faces}", "evaluation.split=test"]
    return mote("train", *QUICK, *where, f"run.out={out}", *overrides)


def log_of(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def mined(faces, tmp_path_factory) -> Path:
    """A run of MEK with everything on top of it."""
    out = tmp_path_factory.mktemp("runs") / "mek"
    components = ["mixing.methods=[mixup]", "mixing.probability=0.5", "image.dropout=0.3", "r_drop.weight=0.5"]
    whole = ["optim.epochs=6", "evaluation.every=6", "evaluation.page=true"]
    assert train(faces, out, "imbalance.method=mek", *whole, *components) == 0
    return out


def test_mek_trains_with_all_components_and_says_what_it_mined(mined, faces, tmp_path):
    result = json.loads((mined / "metrics.json").read_text())
    assert {"ce", "attention", "r_drop"} <= set(log_of(mined)[0])
    assert result["training_counts"] == COUNTS and result["listed"] == 9
    assert [result["groups"][name]["classes"] for name in ("head", "medium", "tail")] == [["calm"], ["happy"], ["sad"]]
    assert 0 <= result["macro_f1"] <= 1
    for kind in ("probability", "attention"):
        given = np.array(result["extra_knowledge"][kind]["given"])
        assert given.sum(axis=1) == pytest.approx(np.ones(3))
        assert result["extra_knowledge"][kind]["mined"]["given"] == pytest.approx(given[0, 2])
    meta = json.loads((mined / "best" / "model.json").read_text())
    assert (meta["task"], meta["classes"], meta["counts"]) == ("expression", list(COUNTS), list(COUNTS.values()))
    assert mote("eval", mined, "evaluation.page=false", "--out", tmp_path) == 0
    again = json.loads((tmp_path / "eval.json").read_text())
    for key in ("confusion_matrix", "macro_f1", "groups"):
        assert again[key] == result[key]


@pytest.mark.slow
def test_post_hoc_corrections_are_those_of_the_formulas(mined, tmp_path, capsys):
    weights, probabilities = load_file(mined / "best" / "model.safetensors"), {}
    for method in ("none", "logit_adjustment", "tau_norm"):
        options = [f"imbalance.posthoc={method}", *(["imbalance.posthoc_tau=0.8"] if method != "none" else [])]
        assert mote("eval", mined, *options, "--out", tmp_path / method) == 0
        rows = (tmp_path / method / "eval.csv").read_text().splitlines()[1:]
        probabilities[method] = [{r[i]: float(r[i + 1]) for i in (6, 8, 10)} for r in (row.split(",") for row in rows)]
    warned = capsys.readouterr().err
    assert "imbalance.posthoc=logit_adjustment corrects once more what imbalance.method=mek" in warned
    prior = {name: count / sum(COUNTS.values()) for name, count in COUNTS.items()}
    for plain, adjusted in zip(probabilities["none"], probabilities["logit_adjustment"], strict=True):
        moved = {name: plain[name] / prior[name] ** 0.8 for name in COUNTS}
        assert adjusted == pytest.approx({name: value / sum(moved.values()) for name, value in moved.items()}, rel=1e-5)
    model, _ = load_net(mined / "best")
    fc = weights["net.fc.weight"]
    from mote.datasets.images import ImageDataset
    from mote.datasets.lists.images import read_images

    listed = json.loads((mined / "metrics.json").read_text())["provenance"]["config"]["evaluation"]["manifest"]
    data = read_images(listed, classes=list(COUNTS), split="test")
    images = torch.stack([item["images"] for item in ImageDataset(data, size=12, channels=1, train=False)])
    with torch.no_grad():
        expected = (model.encode(images)[0] @ (fc / fc.norm(dim=1, keepdim=True) ** 0.8).T).softmax(1)
    for row, found in zip(expected, probabilities["tau_norm"], strict=True):
        assert [found[name] for name in COUNTS] == pytest.approx(row.tolist(), rel=1e-4)


def test_the_page_shows_classes_groups_and_attention(mined, tmp_path):
    page = (mined / "evaluations" / "eval" / "index.html").read_text()
    for heading in ("Unequal classes", "Head, medium and tail", "Extra knowledge", "Minor classes, right"):
        assert heading in page
    assert page.count("data:image/jpeg") >= 3 * 3  # face and two overlays of three faces at least
    assert (mined / "evaluations" / "eval" / "given.svg").is_file()


def test_an_overlay_is_dark_where_nothing_is_seen_and_the_right_way_up():
    face = np.full((8, 8, 3), 100, dtype=np.uint8)
    share = np.array([[0.0, 1.0], [0.0, 0.0]], dtype=np.float32)
    over = overlay(face, share, side=32)
    assert over[-1, 0].tolist() == [75, 75, 76] and over[0, -1].min() > over[-1, -1].max()
    assert over[0, 0].tolist() == [75, 75, 76]
    assert (overlay(face, None, side=32) == 100).all()


def test_two_results_are_compared_by_what_they_mined(mined, faces, tmp_path, capsys):
    assert train(faces, tmp_path / "ce") == 0
    results = [run / "evaluations" / "eval.json" for run in (tmp_path / "ce", mined)]
    where = ["--json", tmp_path / "c.json", "--figure", tmp_path / "mined.png", "--page", tmp_path / "c.html"]
    assert mote("compare", *results, *where) == 0
    assert "What major classes give to minor ones: attention" in (tmp_path / "c.html").read_text()
    assert "attention that samples of the head give to the tail" in capsys.readouterr().out
    rows = json.loads((tmp_path / "c.json").read_text())["extra_knowledge"]
    given = [json.loads(file.read_text())["extra_knowledge"] for file in results]
    for kind, (row,) in rows.items():
        assert (row["giver"], row["taker"]) == ("calm", "sad")
        assert [row["before"], row["after"]] == [one[kind]["given"][0][2] for one in given]
        assert (tmp_path / f"mined_{kind}.png").is_file()
    draw_tables({"probability": rows["probability"], "attention": []}, tmp_path / "mined")
    assert {path.name for path in tmp_path.glob("mined_*")} == {"mined_probability.svg", "mined_probability.png"}


def test_predict_names_faces_of_files_and_folders(mined, faces, tmp_path, capsys):
    assert mote("predict", mined, faces.parent / "sad6.png", "--json", tmp_path / "p.json", "--top", "2") == 0
    assert "sad6.png: sad 0." in capsys.readouterr().out
    found = json.loads((tmp_path / "p.json").read_text())
    (one,) = found["images"]
    assert one["predicted"] == "sad" and sum(one["scores"].values()) == pytest.approx(1)
    rows = (mined / "evaluations" / "eval.csv").read_text().splitlines()
    row = next(row.split(",") for row in rows if "sad6.png" in row)
    assert one["scores"]["sad"] == pytest.approx(float(row[5]), rel=1e-5)
    (tmp_path / "mixed").mkdir()
    (tmp_path / "mixed" / "good.png").write_bytes((faces.parent / "calm0.png").read_bytes())
    (tmp_path / "mixed" / "broken.png").write_text("no picture")
    assert mote("predict", mined, tmp_path / "mixed") == 1
    output = capsys.readouterr()
    assert "good.png: calm" in output.out and "1 of 2 images could not be decoded" in output.err
    assert mote("predict", mined, tmp_path / "mixed", "--labels", "a,b") == 2
    assert "knows its own classes only (calm, happy, sad)" in capsys.readouterr().err


def test_predict_looks_at_the_face_alone(mined, faces, tmp_path, capsys, monkeypatch):
    pytest.importorskip("cv2", reason="needs the extra `faces`")
    assert mote("predict", mined, faces.parent / "sad6.png", "--faces") == 1
    output = capsys.readouterr().err
    assert "sad6.png: no face was found" in output and "1 of 1 images could not be used" in output
    monkeypatch.setattr("mote.inference.images.face_of_image", lambda pixels, name: pixels[2:20, 4:22])
    Image.open(faces.parent / "sad6.png").crop((4, 2, 22, 20)).save(tmp_path / "cut.png")
    scores = []
    for arguments in ([faces.parent / "sad6.png", "--faces"], [tmp_path / "cut.png"]):
        assert mote("predict", mined, *arguments, "--json", tmp_path / "p.json") == 0
        scores.append(json.loads((tmp_path / "p.json").read_text())["images"][0]["scores"])
    assert scores[0] == scores[1]


def test_classifier_re_training_moves_the_head_alone(mined, faces, tmp_path, capsys):
    assert train(faces, tmp_path / "crt", "imbalance.method=crt", f"image.init={mined}") == 0
    before, after = (load_file(run / "best" / "model.safetensors") for run in (mined, tmp_path / "crt"))
    changed = {name for name, value in before.items() if not torch.equal(value, after[name])}
    assert changed == {"net.fc.weight", "net.fc.bias"}
    assert train(faces, tmp_path / "bad", "imbalance.method=crt") == 2
    assert "name it with image.init" in capsys.readouterr().err
    other = [f"image.init={mined}", "image.net=resnet20"]
    assert train(faces, tmp_path / "bad", "imbalance.method=crt", *other) == 2
    assert "has another net than this run" in capsys.readouterr().err and not (tmp_path / "bad").exists()


def test_ldam_and_a_backbone_from_a_file(mined, faces, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("mote.parallel.precision.has_bf16", lambda device: False)
    file = mined / "best" / "model.safetensors"
    settings = ["imbalance.method=ldam_drw", "imbalance.defer=0.5", f"image.init={file}"]
    assert train(faces, tmp_path / "ldam", *settings, "optim.precision=auto") == 0
    assert load([tmp_path / "ldam" / "config.yaml"]).optim.precision == "fp32"  # what auto was on this machine
    assert load_net(tmp_path / "ldam" / "best").model.scale == 30
    assert train(faces, tmp_path / "bad", f"image.init={faces}") == 2
    assert "cannot be read as weights" in capsys.readouterr().err and not (tmp_path / "bad").exists()


def test_a_class_without_training_samples_is_named(faces, tmp_path, capsys):
    lines = [line for line in faces.read_text().splitlines() if "sad" not in line or line.endswith("test")]
    (faces.parent / "few.csv").write_text("\n".join(lines) + "\n")
    assert train(faces.parent / "few.csv", tmp_path / "bad") == 2
    assert "no training sample of class sad; leave these classes out" in capsys.readouterr().err
    assert not (tmp_path / "bad").exists()


def test_settings_of_other_methods_are_idle_and_questionable_settings_warn():
    def lines(*overrides: str) -> list[str]:
        return unused(load([], ["task=expression", *overrides]))

    assert lines("imbalance.method=mek", "imbalance.strength=5", "imbalance.epsilon=0.3") == []
    assert lines("imbalance.strength=5") == ["imbalance.strength: imbalance.method=ce does not use it"]
    assert lines("imbalance.method=focal", "imbalance.beta=0.9", "imbalance.gamma=1") == [
        "imbalance.beta: imbalance.method=focal does not use it"
    ]
    assert lines("imbalance.posthoc_tau=0.5") == ["imbalance.posthoc_tau: imbalance.posthoc is none"]
    assert unused(load([], ["task=image", "imbalance.method=mek"])) == [
        "imbalance.method: for task=expression and task=video"
    ]

    def stacked(method: str, posthoc: str) -> list[str]:
        overrides = [f"imbalance.method={method}", f"imbalance.posthoc={posthoc}"]
        return questionable(load([], ["task=expression", *overrides]))

    assert "corrects once more what imbalance.method=sampler" in stacked("sampler", "logit_adjustment")[0]
    assert stacked("mek", "none") == []
    assert "mirror image" in questionable(
        load([], ["task=expression", "imbalance.method=mek", "data.flip=0"])
    )[0]  # fmt: skip
    assert stacked("sampler", "none") == stacked("ce", "logit_adjustment") == stacked("smoothing", "tau_norm") == []


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["imbalance.method=mekk"], "imbalance.method: Input should be 'ce', 'weighted'"),
        (["image.net=backbone", "imbalance.posthoc=tau_norm"], "tau_norm needs a linear head"),
        (["imbalance.method=ldam_drw", "imbalance.posthoc=tau_norm"], "is normalised already"),
        (["imbalance.epsilon=1.5"], "imbalance.epsilon: Input should be less than 1"),
    ],
)
def test_settings_that_cannot_be_are_refused(overrides, message):
    with pytest.raises(ConfigError, match=message):
        load([], ["task=expression", *overrides])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:tiny CLIP has no token")
def test_clip_as_a_backbone(faces, tmp_path):
    clip = ["image.net=backbone", "image.channels=3", "data.size=64", "optim.epochs=1", "optim.backbone_lr_scale=1"]
    clip += ["evaluation.page=true"]
    assert train(faces, tmp_path / "run", *clip, "imbalance.method=mek", "optim.lr=1e-4") == 0
    assert "attention" in log_of(tmp_path / "run")[0]
    assert mote("eval", tmp_path / "run", "--out", tmp_path / "again") == 0
    results = [json.loads(path.read_text()) for path in (tmp_path / "run/metrics.json", tmp_path / "again/eval.json")]
    assert results[0]["confusion_matrix"] == results[1]["confusion_matrix"]
    assert results[0]["extra_knowledge"]["attention"] == results[1]["extra_knowledge"]["attention"]

"""`mote fit`: the model that it saves answers as scikit-learn does; its accuracy is of groups that were left out."""

import csv
import json
import math
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from command_line import fails, mote
from made_videos import NAMES, write_videos
from sklearn.linear_model import LogisticRegression

from mote.inference.loading import load_video
from mote.models.checkpoints import save_model
from mote.models.temporal import TemporalHead
from mote.prediction.fit import STRENGTHS, Examples, accuracies, best_strength, fitted, held_out, interval
from mote.prediction.parts import part_files

COUNT = 12


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """(videos, the last one damaged; a model with a temporal head; the folder of features)."""
    folder = tmp_path_factory.mktemp("fit")
    videos = write_videos(folder, COUNT + 1, damaged=[COUNT])
    model = load_video("tiny")
    torch.manual_seed(0)
    head = TemporalHead(model.model.embed_dim, num_layers=1, num_heads=2, num_experts=1)
    for weights in head.parameters():
        torch.nn.init.normal_(weights, std=0.1)
    model.model.temporal = head.eval()
    meta = {**model.meta, "templates": model.templates, "frames": model.frames, "size": model.size, "classes": ["x"]}
    text = torch.nn.functional.normalize(torch.randn(1, model.model.embed_dim), dim=1)
    save_model(folder / "model", model.model, meta, {"tuned_text": text})
    assert mote("encode", folder / "model", *videos, "--out", folder / "out", "--workers", "0") == 1
    return videos, folder / "model", folder / "out"


def write_labels(path: Path, videos: list[Path], classes: int = 3, **columns) -> Path:
    rows = [{"path": video, "label": NAMES[i % classes]} for i, video in enumerate(videos)]
    for name, values in columns.items():
        rows = [{**row, name: value} for row, value in zip(rows, values, strict=True)]
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def stored(out: Path) -> dict[str, np.ndarray]:
    rows = [row for file in part_files(out) for row in pq.read_table(file).to_pylist()]
    return {row["path"]: np.array(row["features"], np.float32) for row in rows if row["error"] is None}


@pytest.mark.parametrize("classes", [2, 3])
def test_the_folder_answers_as_the_probe_of_scikit_learn(made, tmp_path, capsys, classes):
    videos, _, out = made
    labels = write_labels(tmp_path / "labels.csv", videos[:COUNT], classes)
    assert mote("fit", out, labels, "--out", tmp_path / "fitted", "--folds", "3") == 0
    report = json.loads((tmp_path / "fitted" / "fit.json").read_text())
    features = stored(out)
    given = np.stack([features[str(video)] for video in videos[:COUNT]]).astype(np.float64)
    names = [NAMES[i % classes] for i in range(COUNT)]
    probe = LogisticRegression(C=report["C"], fit_intercept=False, max_iter=10_000).fit(given, names)
    model = load_video(str(tmp_path / "fitted"))
    assert model.classes == probe.classes_.tolist() == sorted(NAMES[:classes])
    for video, row in zip(videos[:COUNT], probe.predict_proba(given), strict=True):
        found = model.classify_video(video)
        np.testing.assert_allclose([found[name] for name in model.classes], row, atol=1e-5)
    told = report["cross_validation"]
    assert f"{100 * told['accuracy']:.1f} %" in capsys.readouterr().out
    assert (
        told["examples"] == told["groups"] == COUNT and told["interval"][0] <= told["accuracy"] <= told["interval"][1]
    )
    assert report["C"] in STRENGTHS and report["counts"] == dict.fromkeys(model.classes, COUNT // classes)
    assert mote("predict", tmp_path / "fitted", videos[0], "--csv", tmp_path / "p.csv") == 0
    with (tmp_path / "p.csv").open() as file:
        assert next(csv.DictReader(file))["predicted"] == next(iter(model.classify_video(videos[0])))


def test_class_means_are_answers_by_cosine_and_templates_do_not_matter(made, tmp_path):
    videos, _, out = made
    labels = write_labels(tmp_path / "labels.csv", videos[:COUNT])
    assert mote("fit", out, labels, "--out", tmp_path / "fitted", "--method", "mean", "--folds", "3") == 0
    model, features = load_video(str(tmp_path / "fitted")), stored(out)
    means = []
    for name in model.classes or []:
        mean = np.mean([features[str(video)] for i, video in enumerate(videos[:COUNT]) if NAMES[i % 3] == name], axis=0)
        means.append(mean / np.linalg.norm(mean))
    logits = model.model.logit_scale.exp().item() * np.stack(means) @ features[str(videos[4])]
    expected = torch.softmax(torch.from_numpy(logits), 0)
    for one in (model, model.with_templates(["{}"])):
        found = one.classify_video(videos[4])
        np.testing.assert_allclose([found[name] for name in model.classes or []], expected, atol=1e-5)


@pytest.mark.slow
def test_a_fitted_model_is_evaluated_and_exported_like_any_other_and_gates_nothing(made, tmp_path, capsys):
    videos, base, out = made
    labels = write_labels(tmp_path / "labels.csv", videos[:COUNT])
    mote("fit", out, labels, "--out", tmp_path / "fitted", "--folds", "3")
    (tmp_path / "classes.txt").write_text("".join(f"{name}\n" for name in sorted(NAMES)))
    settings = [f"evaluation.manifest={labels}", f"evaluation.classes={tmp_path / 'classes.txt'}", "data.workers=0"]
    assert mote("eval", tmp_path / "fitted", *settings, "--out", tmp_path / "result") == 0
    file = tmp_path / "fitted.safetensors"
    assert mote("export", tmp_path / "fitted", "--out", file) == 0
    one, other, known = load_video(str(tmp_path / "fitted")), load_video(str(file)), load_video(str(base))
    assert one.classify_video(videos[0]) == pytest.approx(other.classify_video(videos[0]), abs=1e-6)
    assert not one.can_gate and known.can_gate
    new = ["a red thing", "a blue thing"]  # by their text, the temporal branch in full
    assert one.classify_video(videos[0], new) == known.classify_video(videos[0], new, modulation=False)
    assert one.hashes(NAMES)["weights"] != known.hashes(NAMES)["weights"]


def test_a_folder_says_that_it_is_fitted_or_its_weights_are_no_features(made, tmp_path):
    videos, _, out = made
    fitted_, labels = tmp_path / "fitted", write_labels(tmp_path / "labels.csv", videos[:COUNT])
    mote("fit", out, labels, "--out", fitted_, "--folds", "3")
    meta = json.loads((fitted_ / "model.json").read_text())
    assert meta["fitted"] == "probe" and meta["counts"] == [4, 4, 4]
    for change, said in (
        ({"fitted": None}, "expected rows that have length 1"),
        ({"modulation": True}, "modulation compares features of names"),
        ({"fitted": "svm"}, "fitted"),
    ):
        (fitted_ / "model.json").write_text(json.dumps({**meta, **change}))
        with pytest.raises(ValueError, match=said):
            load_video(str(fitted_))


def test_a_path_may_start_at_the_folder_of_the_list(made, tmp_path, monkeypatch):
    videos, _, out = made
    labels = write_labels(videos[0].parent / "labels.csv", [Path(video.name) for video in videos[:COUNT]])
    monkeypatch.chdir(tmp_path)
    assert mote("fit", out, labels, "--out", tmp_path / "fitted", "--folds", "3") == 0


def test_mistakes_are_one_line_each_and_nothing_is_written(made, tmp_path, capsys):
    videos, _, out = made
    file, fitted_ = tmp_path / "labels.csv", tmp_path / "fitted"

    def said(**columns) -> str:
        write_labels(file, columns.pop("videos", videos[:COUNT]), **columns)
        return fails(capsys, "fit", out, file, "--out", fitted_)

    assert f"labels.csv:14: {videos[COUNT]} could not be encoded" in said(videos=videos)
    assert "is not in" in said(videos=[*videos[:COUNT], "other.mp4", "another.mp4"]) and not fitted_.exists()
    assert "(2 labelled videos have no features)" in said(videos=[*videos[:COUNT], "other.mp4", "another.mp4"])
    assert "the only example of 'green ball'; a class needs two" in said(videos=videos[:5])
    assert "at least two are needed" in said(classes=1)
    assert "--folds 5: so many need 5 groups" in said(group=[i % 4 for i in range(COUNT)])
    assert "stands there already" in said(videos=[*videos[:COUNT], videos[0]])
    for text, what in (
        ("file,label\na,b\n", "expected a header with columns path,label"),
        ("path,label\na,\n", "labels.csv:2: expected 2 cells"),
        ("path,label\n", "it lists no video"),
    ):
        file.write_text(text)
        assert what in fails(capsys, "fit", out, file, "--out", fitted_)
    assert "there is no such file" in fails(capsys, "fit", out, tmp_path / "none.csv", "--out", fitted_)
    assert "no folder of features" in fails(capsys, "fit", tmp_path, file, "--out", fitted_)
    fitted_.mkdir()
    (fitted_ / "mine").touch()
    assert "not empty" in fails(capsys, "fit", out, file, "--out", fitted_)


def drawn(seed: int, groups: int, each: int, noise: float) -> Examples:
    """Examples of two classes; those of a group are alike, and its class is a matter of chance for `noise` = 0."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(groups, 16))
    label = np.arange(groups) % 2
    centres[:, 0] += noise * (2 * label - 1)
    features = np.repeat(centres, each, axis=0) + 0.01 * rng.normal(size=(groups * each, 16))
    features = (features / np.linalg.norm(features, axis=1, keepdims=True)).astype(np.float32)
    return Examples(features, np.repeat(label, each), np.repeat(np.arange(groups), each), ["a", "b"])


def test_alike_examples_of_a_group_do_not_flatter_the_accuracy():
    examples = drawn(0, 20, 5, noise=0.0)  # nothing to learn but the groups
    apart = examples._replace(groups=np.arange(100))
    assert held_out(apart, STRENGTHS, 5).mean() > 0.95
    assert held_out(examples, STRENGTHS, 5).mean() < 0.8
    assert held_out(drawn(1, 20, 5, noise=9.0), (math.nan,), 5).all()


def test_the_smallest_strength_of_equal_ones_is_chosen_and_a_class_may_be_missing_in_a_fold():
    assert best_strength({0.1: 0.5, 1.0: 0.9, 10.0: 0.9}) == 1.0
    examples = drawn(1, 6, 2, noise=9.0)
    alone = examples._replace(labels=np.array([0, 0, *[1] * 10]), groups=np.array([0, 0, *[1, 2, 3, 4, 5] * 2]))
    found = accuracies(alone, (1.0,), 6)
    assert found[1.0] <= 10 / 12  # class 0 lies in one group: where that is left out nothing is known of it
    assert fitted(alone._replace(labels=np.ones(12, np.int64)), 1.0).any() == np.False_


def test_the_interval_counts_groups_and_not_examples():
    assert interval(90, 100, 100)["interval"] == pytest.approx([0.8256, 0.9448], abs=1e-3)  # Wilson, by hand
    few = interval(90, 100, 10)["interval"]
    assert few[0] < 0.6 and few[1] > 0.97

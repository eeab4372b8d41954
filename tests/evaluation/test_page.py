"""The page that `mote eval` leaves, and what it says of single frames, against the equations on the frames left."""

import json
import re

import numpy as np
import pytest
import torch
from evaluated_clips import settings, write_clips
from oracles import mote_reference

from mote import load
from mote.cli import main
from mote.config.sections import EvaluationConfig
from mote.datasets.decoding.decode import read_frames
from mote.datasets.sampling import segment_indices
from mote.datasets.transforms import eval_transform
from mote.datasets.video import VideoDataset
from mote.evaluation import page
from mote.inference.classifier import VideoClassifier
from mote.models.modulation import Gate
from mote.reporting.contact_sheet import ShownClip
from mote.reporting.evaluation_page import read_predictions


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clips of a page")
    write_clips(folder, 6)
    return folder


def mote(*arguments):
    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments])
    return stop.value.code


@pytest.mark.parametrize("gated", [False, True])
def test_importance_is_what_the_logit_loses_without_the_frame(clips, tmp_path, gated):
    checkpoint = mote_reference.random_checkpoint(torch.Generator().manual_seed(3), embed=96, width=192)
    torch.save(checkpoint, tmp_path / "MoTE.pt")
    model = load(str(tmp_path / "MoTE.pt"))
    pixels = eval_transform(read_frames(clips / "clip 0.mp4", lambda n: segment_indices(n, 5)), 16)  # (1, 5, 3, 16, 16)
    text = checkpoint["fusion_model_state_dict"]["spe_cls_feature"].double().numpy()
    scorer = model.scorer(model.chosen(None), gated)
    found = page.frame_importance(scorer, model.encode(pixels[None])[0, 0], predicted=2)
    frames = pixels.numpy()
    whole = mote_reference.logits(checkpoint, frames, text, gated)[0][2]
    expected = [
        whole - mote_reference.logits(checkpoint, np.delete(frames, t, axis=1), text, gated)[0][2] for t in range(5)
    ]
    assert found == pytest.approx(expected, abs=1e-4)
    assert np.ptp(expected) > 1e-2
    assert page.frame_importance(scorer, model.encode(pixels[None, :, :1])[0, 0], predicted=2) is None


@pytest.mark.parametrize(("clips", "crops", "middle"), [(3, 3, 4), (2, 1, 1), (1, 3, 1), (5, 3, 7)])
def test_what_is_shown_is_the_middle_view_with_the_gate_of_the_scores(monkeypatch, clips, crops, middle):
    """Each view is filled with its number; those of one clip lie beside each other, so of 3 x 3 number 4 is meant."""
    scored = []

    def scorer(labels, modulation, *, gate):
        scored.append((labels, modulation, gate))
        return lambda batch: torch.zeros(*batch["features"].shape[:2], 2)

    views = torch.arange(clips * crops).view(-1, 1, 1, 1, 1).expand(-1, 2, 3, 4, 4).to(torch.uint8)
    classifier, dataset = object.__new__(VideoClassifier), object.__new__(VideoDataset)
    classifier.__dict__.update(modulation_gate=Gate(), scorer=scorer, encode=lambda frames: torch.ones(1, 1, 2, 5))
    dataset.__dict__["frames"] = lambda epoch, place: views
    settings = EvaluationConfig(clips=clips, crops=crops, modulation=True, modulation_k=2, modulation_gamma=0.5)
    monkeypatch.setattr(page, "pick_clips", lambda rows, count: ([1], [0]))
    monkeypatch.setattr(
        page, "shown_clip", lambda row, frames, change: ShownClip(row["predicted"], frames, "a", [("a", 1.0)], change)
    )
    rows = [{"predicted": "a"}, {"predicted": "b"}]
    shown = page.shown_clips(classifier, rows, ["a", "b"], settings, dataset)
    assert scored == [(["a", "b"], True, Gate(2, 0.5))]
    assert [one.path for one in shown] == ["b", "a"]
    for one in shown:
        assert one.frames.shape == (2, 4, 4, 3) and (one.frames == middle).all()


def test_eval_leaves_a_page_of_its_clips(clips, tmp_path, capsys):
    assert mote("eval", "tiny", *settings(clips, "evaluation.clips=2"), "--out", tmp_path) == 0
    assert f"{tmp_path / 'eval' / 'index.html'}" in capsys.readouterr().out
    html = (tmp_path / "eval" / "index.html").read_text()
    rows = read_predictions(tmp_path / "eval.csv")
    assert html.count('<article class="clip">') == len(rows) == 6
    assert all(row["path"] in html for row in rows)
    assert "middle one of 2 views" in html and "Views (clips x crops): 2 x 1" in html
    result = json.loads((tmp_path / "eval.json").read_text())
    assert f"{result['top1_correct']} of 6" in html and str(clips / "list.txt") in html
    assert not re.search(r"(src|href)=.?https?:|@import|url\((?!#)|<iframe", html)


def test_a_page_never_outlives_its_numbers(clips, tmp_path):
    assert mote("eval", "tiny", *settings(clips), "--out", tmp_path) == 0
    assert (tmp_path / "eval" / "index.html").is_file()
    assert mote("eval", "tiny", *settings(clips), "--out", tmp_path, "--no-page") == 0
    assert not (tmp_path / "eval" / "index.html").exists() and (tmp_path / "eval.json").is_file()


def test_undecodable_clips_are_named_and_not_drawn(clips, tmp_path):
    (clips / "bad.txt").write_text((clips / "list.txt").read_text() + "nowhere.mp4 0\n")
    bad = [f"evaluation.manifest={clips / 'bad.txt'}", "evaluation.bad_videos=count_wrong"]
    assert mote("eval", "tiny", *settings(clips, *bad), "--out", tmp_path) == 0
    html = (tmp_path / "eval" / "index.html").read_text()
    assert "6 of 7 listed clips were decoded" in html and html.count('<article class="clip">') == 6
    assert "nowhere.mp4" in html.split("Could not be decoded")[-1]


def test_a_page_that_cannot_be_drawn_costs_no_numbers(clips, tmp_path, capsys, monkeypatch):
    def fails(*_, **__):
        raise KeyError("no\nfont")

    monkeypatch.setattr(page, "write_evaluation_page", fails)
    assert mote("eval", "tiny", *settings(clips), "--out", tmp_path) == 0
    out, err = capsys.readouterr()
    assert "6 of 6 videos scored" in out and "index.html" not in out
    (line,) = [line for line in err.splitlines() if "could not be drawn" in line]
    assert line.startswith("mote: warning: ") and "font" in line
    assert json.loads((tmp_path / "eval.json").read_text())["scored"] == 6


def test_a_clip_that_is_gone_by_now_is_left_out(clips, tmp_path, monkeypatch):
    draw = page.shown_clips

    def later(classifier, predictions, labels, options, views):
        views.records[0] = views.records[0]._replace(path=tmp_path / "gone.mp4")
        return draw(classifier, predictions, labels, options, views)

    monkeypatch.setattr(page, "shown_clips", later)
    assert mote("eval", "tiny", *settings(clips), "--out", tmp_path) == 0
    assert (tmp_path / "eval" / "index.html").read_text().count('<article class="clip">') == 5


@pytest.mark.slow
def test_training_draws_the_last_evaluation_only(clips, tmp_path, monkeypatch):
    drawn = []
    write = page.write_evaluation_page
    monkeypatch.setattr(page, "write_evaluation_page", lambda *a, **k: (drawn.append(a[0]), write(*a, **k))[1])
    quick = ["model.layers=1", "optim.epochs=3", "optim.warmup_epochs=0", "optim.batch_size=4", "data.frames=2"]
    where = [f"data.train={clips / 'list.txt'}", f"data.classes={clips / 'classes.txt'}", f"run.out={tmp_path / 'run'}"]
    assert mote("train", *quick, *where, "data.workers=0", f"evaluation.manifest={clips / 'list.txt'}") == 0
    results = tmp_path / "run" / "evaluations" / "eval"
    assert [(path.name, path.is_relative_to(results)) for path in drawn] == [("index.html", True)]  # and then renamed
    assert (results / "index.html").is_file()

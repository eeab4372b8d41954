"""Scoring and summary: every clip once, whatever the batches and processes; a bad clip is wrong, never gone."""

import math
from collections import Counter

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from mote.metrics.scores import FUSIONS, Scores, summarize
from mote.metrics.scoring import fuse_views, score

NUM_CLIPS, NUM_CLASSES = 67, 6
CLASSES = [f"class {i}" for i in range(NUM_CLASSES)]
BAD = {5, 66}


class Clips(Dataset):
    """Clips whose logits are stored: 3 views, classes 0..4 only, two clips that cannot be decoded."""

    def __init__(self):
        generator = torch.Generator().manual_seed(0)
        self.logits = 3 * torch.randn(NUM_CLIPS, 3, NUM_CLASSES, generator=generator)
        self.label = torch.randint(NUM_CLASSES - 1, (NUM_CLIPS,), generator=generator)

    def __len__(self):
        return NUM_CLIPS

    def __getitem__(self, i):
        bad = i in BAD
        logits = torch.full_like(self.logits[i], torch.nan) if bad else self.logits[i]
        return {"logits": logits, "label": self.label[i], "index": torch.tensor(i), "valid": torch.tensor(not bad)}


def run(batch_size=7, loader=None, **options):
    loader = loader or DataLoader(Clips(), batch_size)
    return score(loader, total=NUM_CLIPS, num_classes=NUM_CLASSES, **options)


def test_summary_equals_a_loop():
    clips, summary = Clips(), summarize(run(), CLASSES)
    top1 = top5 = 0
    listed, hits, confusion = Counter(), Counter(), np.zeros((NUM_CLASSES, NUM_CLASSES), dtype=int)
    for i in range(NUM_CLIPS):
        own = int(clips.label[i])
        listed[own] += 1
        if i in BAD:
            continue
        mean = clips.logits[i].double().softmax(-1).mean(0).tolist()
        order = sorted(range(NUM_CLASSES), key=lambda c: -mean[c])
        top1 += order[0] == own
        top5 += own in order[:5]
        hits[own] += order[0] == own
        confusion[own, order[0]] += 1
    assert (summary["listed"], summary["scored"], summary["num_classes"]) == (NUM_CLIPS, NUM_CLIPS - 2, NUM_CLASSES)
    assert (summary["top1_correct"], summary["top5_correct"], summary["top5_k"]) == (top1, top5, 5)
    assert (summary["top1"], summary["top5"]) == (top1 / NUM_CLIPS, top5 / NUM_CLIPS)
    assert summary["top1_interval"][0] < summary["top1"] < summary["top1_interval"][1]
    assert summary["per_class"] == [
        {"class": CLASSES[c], "listed": listed[c], "correct": hits[c], "recall": hits[c] / listed[c]} for c in range(5)
    ]
    assert summary["mean_class_recall"] == pytest.approx(sum(hits[c] / listed[c] for c in range(5)) / 5, abs=1e-12)
    low, high = summary["mean_class_recall_interval"]
    assert low < summary["mean_class_recall"] < high
    sure = [clips.logits[i].double().softmax(-1).mean(0).max().item() for i in range(NUM_CLIPS) if i not in BAD]
    filled = [row for row in summary["calibration"]["bins"] if row["count"]]
    assert sum(row["count"] * row["confidence"] for row in filled) == pytest.approx(sum(sure))
    assert sum(row["correct"] for row in filled) == top1
    assert summary["absent_classes"] == ["class 5"]
    assert summary["confusion_matrix"] == confusion.tolist()


@pytest.mark.parametrize("batch_size", [1, 64])
def test_batch_size_changes_nothing(batch_size):
    assert summarize(run(batch_size), CLASSES) == summarize(run(7), CLASSES)


def test_fusion_is_passed_on():
    clips = Clips()
    expected = clips.logits.double().mean(1).softmax(-1)
    scores = run(fusion="mean_logits")
    keep = [i for i in range(NUM_CLIPS) if i not in BAD]
    np.testing.assert_allclose(scores.probabilities[keep], expected[keep], rtol=0, atol=1e-12)
    cosines = (clips.logits.double() / 3).softmax(-1).mean(1).softmax(-1)
    scores = run(fusion="reference", logit_scale=3.0)
    np.testing.assert_allclose(scores.probabilities[keep], cosines[keep], rtol=0, atol=1e-12)


def test_bad_clips_have_no_scores_and_count_as_wrong():
    scores = run()
    assert set(np.flatnonzero(~scores.valid).tolist()) == BAD
    assert not scores.probabilities[sorted(BAD)].any()
    # Label 0 with all-zero scores would win the tie for class 0 if validity were forgotten.
    zeros = Scores(np.arange(2), np.zeros(2, np.int64), np.array([[0.0, 0.0], [0.9, 0.1]]), np.array([False, True]))
    summary = summarize(zeros, ["a", "b"])
    assert (summary["top1"], summary["top5"], summary["top5_k"], summary["scored"]) == (0.5, 0.5, 2, 1)
    assert summary["per_class"] == [{"class": "a", "listed": 2, "correct": 1, "recall": 0.5}]
    assert summary["confusion_matrix"] == [[1, 0], [0, 0]]


def test_every_clip_bad_is_zero_accuracy():
    none = Scores(np.arange(3), np.arange(3), np.zeros((3, 3)), np.zeros(3, bool))
    summary = summarize(none, ["a", "b", "c"])
    assert (summary["top1"], summary["scored"], summary["listed"]) == (0.0, 0, 3)


def test_two_processes_equal_one():
    # One takes the odd clips, the other the even ones, in another order; what each found is added up.
    clips = Clips()
    shards = [list(range(1, NUM_CLIPS, 2)), list(range(0, NUM_CLIPS, 2))[::-1]]
    parts = []
    with pytest.raises(StopIteration):
        run(loader=DataLoader(clips, 5, sampler=shards[0]), add_up=lambda found: parts.append(found) or next(iter(())))
    both = run(
        loader=DataLoader(clips, 8, sampler=shards[1]),
        add_up=lambda found: {name: value + parts[0][name] for name, value in found.items()},
    )
    alone = run()
    for name in ("index", "label", "probabilities", "valid"):
        np.testing.assert_array_equal(getattr(both, name), getattr(alone, name))


def batches(*indices, labels=None, logits=None):
    labels = labels or [0] * len(indices)
    return [
        {
            "index": torch.tensor(indices),
            "label": torch.tensor(labels),
            "valid": torch.ones(len(indices), dtype=torch.bool),
            "logits": torch.zeros(len(indices), 1, 2) if logits is None else logits,
        }
    ]


def test_missing_clips_are_an_error():
    with pytest.raises(ValueError, match="2 of 4 clips were never scored, the first has index 1"):
        score(batches(0, 2), total=4, num_classes=2)
    with pytest.raises(ValueError, match="2 of 2 clips were never scored"):
        score([], total=2, num_classes=2)
    with pytest.raises(ValueError, match="no clips to score"):
        score([], total=0, num_classes=2)


def test_wrong_keys_are_an_error():
    for index in (-1, 2):
        with pytest.raises(ValueError, match=r"outside 0\.\.1"):
            score(batches(0, index), total=2, num_classes=2)
    for twice in (batches(0, 1, 0), [*batches(0, 1), *batches(0)]):
        with pytest.raises(ValueError, match="1 of 2 clips were scored twice, the first has index 0"):
            score(twice, total=2, num_classes=2)


def test_not_finite_logits_of_a_good_clip_are_an_error():
    logits = torch.tensor([[[0.0, 1.0]], [[torch.nan, 0.0]]])
    with pytest.raises(ValueError, match=r"logits of clip 1 .* not finite"):
        score(batches(0, 1, logits=logits), total=2, num_classes=2)


def test_half_precision_logits_are_accepted():
    scores = score(batches(0, logits=torch.tensor([[[1.0, 3.0]]], dtype=torch.bfloat16)), total=1, num_classes=2)
    assert scores.probabilities[0, 1] == pytest.approx(1 / (1 + np.exp(-2)), abs=1e-12)


def test_class_names_must_fit_the_scores():
    with pytest.raises(ValueError, match="over 6 classes but 2 class names"):
        summarize(run(), ["a", "b"])


def softmax(values):
    weights = [math.exp(v) for v in values]
    return [w / sum(weights) for w in weights]


def mean(rows):
    return [sum(column) / len(rows) for column in zip(*rows, strict=True)]


FUSION_LOOPS = {
    "mean_softmax": lambda views, scale: mean([softmax(view) for view in views]),
    "mean_logits": lambda views, scale: softmax(mean(views)),
    "reference": lambda views, scale: softmax(mean([softmax([v / scale for v in view]) for view in views])),
}


@pytest.mark.parametrize("form", FUSION_LOOPS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_fusion_equals_a_loop(form, dtype):
    logits = (20 * torch.rand(4, 3, 6, generator=torch.Generator().manual_seed(2)) - 10).to(dtype)
    expected = [FUSION_LOOPS[form](clip.tolist(), 20.0) for clip in logits]
    np.testing.assert_allclose(fuse_views(logits, form, 20.0), expected, rtol=0, atol=1e-12)


def test_fusion_forms_can_disagree():
    # One sure view for class 0, two lukewarm views for class 1: the mean of logits follows the sure one.
    logits = torch.tensor([[[12.0, 0.0], [0.0, 3.0], [0.0, 3.0]]])
    best = {form: int(fuse_views(logits, form, 100.0)[0].argmax()) for form in FUSIONS}
    assert best == {"mean_softmax": 1, "mean_logits": 0, "reference": 0}


def test_fusion_survives_large_logits_and_names_its_forms():
    assert fuse_views(torch.tensor([[[1e4, -1e4]]]))[0].tolist() == [1.0, 0.0]
    with pytest.raises(ValueError, match="mean_softmax, mean_logits, reference"):
        fuse_views(torch.zeros(1, 1, 2), "max")


def test_a_matrix_that_grows_with_the_square_of_many_classes_is_left_out():
    probabilities = np.zeros((2, 1001))
    probabilities[:, 7] = 1.0
    few = Scores(np.arange(2), np.array([7, 3]), probabilities[:, :1000], np.ones(2, bool))
    many = Scores(np.arange(2), np.array([7, 3]), probabilities, np.ones(2, bool))
    matrix = summarize(few, [str(i) for i in range(1000)])["confusion_matrix"]
    assert len(matrix) == 1000 and matrix[7][7] == matrix[3][7] == 1
    summary = summarize(many, [str(i) for i in range(1001)])
    assert summary["confusion_matrix"] is None and summary["top1"] == 0.5

"""What an evaluation of videos records of itself, and what it refuses before a clip is decoded."""

from dataclasses import replace

import numpy as np
import pytest

from mote import load
from mote.config import validate
from mote.evaluation import videos
from mote.metrics.scores import Scores

CLASSES = ["red star", "blue arrow"]


@pytest.fixture(scope="module")
def classifier():
    return load("tiny", device="cpu")


def test_cosines_are_not_corrected_as_logits_are(classifier):
    config = validate({"evaluation": {"fusion": "reference"}, "imbalance": {"posthoc": "logit_adjustment"}})
    with pytest.raises(
        ValueError, match=r"posthoc=logit_adjustment corrects logits, evaluation.fusion=reference fuses"
    ):
        videos._as_asked(classifier, config, CLASSES)


def test_the_correction_stands_beside_the_numbers_of_unequal_classes(classifier, monkeypatch):
    known = {"counts": [30, 3], "method": "focal"}
    monkeypatch.setattr(classifier, "meta", known)
    monkeypatch.setattr(type(classifier), "is_tuned_on", lambda self, names: list(names) == CLASSES)
    num = np.arange(2)
    scores = Scores(num, num, np.array([[0.7, 0.3], [0.4, 0.6]]), np.array([True, True]))
    found = videos._unequal_classes(classifier, scores, CLASSES, "logit_adjustment")
    assert found["method"] == {"method": "focal", "posthoc": "logit_adjustment"}
    assert found["training_counts"] == {"red star": 30, "blue arrow": 3}
    assert videos._unequal_classes(classifier, scores, CLASSES[::-1], "none") == {}


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_precision_that_was_used_is_recorded(classifier, precision):
    config = validate({"evaluation": {"precision": precision}})
    assert videos.origin_of(classifier, config, {})["precision"] == precision
    automatic = videos.origin_of(classifier, validate({"evaluation": {"precision": "auto"}}), {})
    assert automatic["precision"] in ("fp32", "bf16") and automatic["config"]["evaluation"]["precision"] == "auto"


@pytest.mark.parametrize("out", [None, "runs/a"])
def test_a_model_that_was_just_trained_comes_from_its_run_directory(classifier, out):
    config = validate({"run": {"out": out}})
    fresh = replace(classifier, source=None)
    assert videos.origin_of(fresh, config, {})["inputs"]["model"] == out

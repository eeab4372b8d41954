"""The verb `mote fit`: classes from a few labelled videos, on features that are encoded already.

Method "probe": multinomial logistic regression on the features z (of length 1), with an L2 penalty: p = softmax(W z).
It has no intercept: features of a CLIP share a large mean direction, on which one can lean. Method "mean": w_k is the
mean of the features of class k, scaled to length 1 (nearest class mean by cosine; p = softmax(scale * w_k z)).

Either is the model itself with other class features, W / scale in the place of those of the names, so it is saved as
one. The strength 1 / C of the penalty is that of the best accuracy in cross-validation over groups. The accuracy that
is reported is of examples whose group took part neither in the fit nor in the choice of C.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float64, Int64
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold
from torch import nn

from mote.files.hashes import sha256_file
from mote.files.provenance import versions
from mote.files.writing import refuse_filled, replacing_folder, to_json
from mote.inference.classifier import VideoClassifier
from mote.metrics.accuracy import wilson_interval
from mote.models.checkpoints import save_model
from mote.prediction.encodings import stored_features
from mote.prediction.labels import Examples, read_examples
from mote.prediction.search import model_of

Method = Literal["probe", "mean"]
STRENGTHS = (0.1, 1.0, 10.0, 100.0, 1000.0, 10000.0)  # C
INNER = 3  # folds by which C is chosen within a fold
REPORT = "fit.json"
OTHERS = ("method", "selected", "labels", "counts", "classes")  # what model.json says of another training


@dataclass(frozen=True)
class Request:
    """What `mote fit` is asked for.

    Args:
        folder: of video features, see `mote.prediction.encodings`.
        labels: list, see `mote.prediction.labels`.
        out: model folder, new or empty.
        method: see the top of this file.
        folds: of the cross-validation.
        model: where the model lies now; None = where it was when the folder was made.
    """

    folder: str
    labels: str
    out: str
    method: Method = "probe"
    folds: int = 5
    model: str | None = None


def fit(request: Request) -> int:
    """Write the model folder, and print its cross-validated accuracy; the exit code 0.

    Raises:
        ValueError, OSError: no features, labels that do not fit them, fewer groups than folds, a filled folder; before
            anything is fitted.
    """
    source, labels, out = Path(request.folder), Path(request.labels), Path(request.out)
    refuse_filled(out)
    plan = stored_features(source)
    examples = read_examples(source, plan, labels)
    groups = int(examples.groups.max()) + 1
    if request.folds < 2 or groups < max(request.folds, 3):
        least = (
            "at least 2 are needed" if request.folds < 2 else f"so many need {max(request.folds, 3)} groups of examples"
        )
        raise ValueError(f"--folds {request.folds}: {least}; {labels} has {groups} groups")
    model = model_of(source, plan, request.model)
    scale = model.model.logit_scale.exp().item()
    strengths = STRENGTHS if request.method == "probe" else (math.nan,)
    right = held_out(examples, strengths, request.folds)
    by_strength = accuracies(examples, strengths, request.folds)
    strength = best_strength(by_strength)
    weights = fitted(examples, strength) / (scale if request.method == "probe" else 1.0)
    validated = interval(int(right.sum()), len(right), groups)
    report = {
        "method": request.method,
        "C": None if request.method == "mean" else strength,
        "cross_validation": {"folds": request.folds, "groups": groups, "examples": len(right), **validated},
        "accuracy_by_C": None if request.method == "mean" else {f"{c:g}": value for c, value in by_strength.items()},
        "counts": dict(zip(examples.classes, counts(examples), strict=True)),
        "features": request.folder,
        "labels": {"file": request.labels, "sha256": sha256_file(labels)},
        "source": dict(plan.source),
        "settings": plan.document["settings"],
        "versions": versions(),
    }
    with replacing_folder(out) as stage:
        save_fitted(stage, model, examples, weights, request.method)
        (stage / REPORT).write_text(to_json(report), encoding="utf-8", errors="surrogateescape")
    low, high = validated["interval"]
    print(f"{out}: {len(examples.classes)} classes, {len(right)} examples in {groups} groups")
    chosen = "" if request.method == "mean" else f", C={strength:g}"
    print(
        f"accuracy on held-out groups: {100 * validated['accuracy']:.1f} % [{100 * low:.1f}, {100 * high:.1f}]{chosen}"
    )
    return 0


def counts(examples: Examples) -> list[int]:
    """Examples of every class."""
    return np.bincount(examples.labels, minlength=len(examples.classes)).tolist()


def interval(correct: int, examples: int, groups: int) -> dict[str, Any]:
    """Accuracy with its 95 % interval (Wilson), as if the examples of a group were a single one: the cautious side."""
    low = wilson_interval(correct * groups // examples, groups)[0]
    high = wilson_interval(-(-correct * groups // examples), groups)[1]
    return {"accuracy": correct / examples, "correct": correct, "interval": [low, high]}


def fitted(examples: Examples, strength: float) -> Float64[np.ndarray, "K D"]:
    """W of the classes that have examples, zeros for others; strength: C of the probe, nan for class means."""
    weights = np.zeros((len(examples.classes), examples.features.shape[1]))
    features, present = examples.features.astype(np.float64), np.unique(examples.labels)
    if math.isnan(strength):
        for label in present:
            mean = features[examples.labels == label].mean(axis=0)
            weights[label] = mean / np.linalg.norm(mean)
        return weights
    if len(present) > 1:
        probe = LogisticRegression(C=strength, fit_intercept=False, max_iter=10_000).fit(features, examples.labels)
        both = probe.coef_
        weights[present] = np.concatenate([-both, both]) / 2 if len(present) == 2 else both
    return weights


def predicted(weights: Float64[np.ndarray, "K D"], examples: Examples, present: Int64[np.ndarray, "P"]) -> Any:
    """The best class of every example, (N,), among those that were there to be learnt."""
    return present[(examples.features @ weights[present].T).argmax(axis=1)]


def _at(examples: Examples, rows: Int64[np.ndarray, "n"]) -> Examples:
    return Examples(examples.features[rows], examples.labels[rows], examples.groups[rows], examples.classes)


def _right(examples: Examples, folds: int, strength: Callable[[Examples], float]) -> Bool[np.ndarray, "N"]:
    """Whether each example is recognised by a fit without its group; `strength` chooses C from the others."""
    right = np.zeros(len(examples.labels), bool)
    for train, test in GroupKFold(folds).split(examples.features, groups=examples.groups):
        seen, left = _at(examples, train), _at(examples, test)
        weights = fitted(seen, strength(seen))
        right[test] = predicted(weights, left, np.unique(seen.labels)) == left.labels
    return right


def accuracies(examples: Examples, strengths: Sequence[float], folds: int) -> dict[float, float]:
    """Cross-validated accuracy over groups for each C."""
    return {c: float(_right(examples, folds, lambda seen, c=c: c).mean()) for c in strengths}


def best_strength(found: dict[float, float]) -> float:
    """C of the highest accuracy; of equal ones the smallest, which is the simplest fit."""
    return max(found, key=lambda c: (found[c], -c))


def held_out(examples: Examples, strengths: Sequence[float], folds: int) -> Bool[np.ndarray, "N"]:
    """Whether each example is recognised without its group, from which C is not chosen either."""

    def chosen(seen: Examples) -> float:
        groups = len(np.unique(seen.groups))
        return strengths[0] if len(strengths) == 1 else best_strength(accuracies(seen, strengths, min(INNER, groups)))

    return _right(examples, folds, chosen)


def save_fitted(
    folder: Path, model: VideoClassifier, examples: Examples, weights: Float64[np.ndarray, "K D"], method: Method
) -> None:
    """Write the model with these class features; how it makes clips stays what it is."""
    own = {name: model.recipe[name] for name in ("frames", "size", "sampling", "stride", "difference", "decoder")}
    meta = {name: value for name, value in model.meta.items() if name not in OTHERS} | own
    meta |= {"classes": examples.classes, "counts": counts(examples), "fitted": method, "modulation": False}
    meta |= {"templates": model.templates, "tuned_templates": model.templates}
    tower = model.towers().encode_text if meta.get("text_tuned") else None
    assert tower is None or isinstance(tower, nn.Module)
    text = {"tuned_text": torch.from_numpy(weights).float()}
    save_model(folder, model.model, meta, text, text_tower=tower)

"""What `mote export` does: one file that gives the logits of `mote predict`, compared with it before it is kept.

Every file carries a contract as JSON in its metadata under "mote": how frames are sampled, cropped, resized and
normalised, the labels, whether modulation is on, and what the model is (versions, hashes).
"""

import json
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from mote.datasets.lists.manifest import unlabelled
from mote.datasets.sources import find_sources
from mote.files.hashes import sha256_lines
from mote.files.provenance import versions, without_places
from mote.files.tensor_hashes import sha256_tensors
from mote.files.writing import replacing
from mote.inference.classifier import VideoClassifier
from mote.inference.correction import posthoc
from mote.inference.formats import format_of
from mote.inference.loading import load_video
from mote.models.checkpoints import save_model
from mote.models.clip_weights import weights_file
from mote.models.export import NOTE, FramesToLogits, write_onnx, write_program
from mote.models.view_scorer import view_scorer

CROPS = {  # by `Preprocessing.resize`
    "shortest": "the central square, of the frame whose short side is `size`",
    "longest": "none: the long side becomes `size`, and bars of colour `fill` make it a square",
    "squash": "none: both sides become `size`",
    "crop": "the central square, side min(H, W), before resizing",
}

Logits = Callable[[Tensor, Tensor], Tensor]  # frames (B,T,3,H,W), class features (K,D) -> logits (B,K)


class ExportError(ValueError):
    """The written file does not give the numbers of the model; it was removed."""


def export(
    classifier: VideoClassifier,
    out: str | Path,
    format: str | None = None,
    *,
    class_names: Sequence[str] | None = None,
    text_input: bool = False,
    modulation: bool | None = None,
    check: str | None = None,
    tolerance: float = 1e-4,
) -> float:
    """Write `out` and return the largest difference of its logits from the model's own.

    Args:
        classifier: the model, on the CPU; its experts are folded.
        out: the file, replaced when it exists; appears only when the comparison holds.
        format: a key of FORMATS; None = by the suffix of `out`.
        class_names: names to choose among; None = the model's own.
        text_input: class features are an input (K, D) instead, and no class names are stored.
        modulation: temporal feature modulation; None = as `mote predict`, by the model's own setting.
        check: video or folder to compare on; None = synthetic clips.
        tolerance: largest difference allowed.

    Raises:
        ValueError, FileNotFoundError: settings that do not fit, a package of the format missing.
        ExportError: the difference is above `tolerance`.
    """
    out = Path(out)
    format = format_of(format, out)
    if text_input and class_names:
        raise ValueError("labels are not stored when class features are an input; give one or the other")
    if (settings := posthoc(classifier)).posthoc != "none":
        warnings.warn(f"imbalance.posthoc={settings.posthoc} of the run is not part of the exported file", stacklevel=2)
    videos = find_sources([check]) if check is not None else []
    names = None if text_input else classifier.chosen(class_names)
    text = None if names is None else classifier.text_features(names)
    # An input may hold the features of any names. On those of the tuned classes the gate is 1 and changes nothing.
    tuned = classifier.gate_text(names or [], modulation)
    note = without_places(contract(classifier, names, text, modulation=tuned is not None))
    with replacing(out) as temporary:
        _write(format, temporary, classifier, text, tuned, note, modulation)
        difference = _compare(_runner(format, temporary, text is None), classifier, text, tuned, videos)
        if not difference <= tolerance:
            problem = f"its logits differ from the model's by up to {difference:.2g}, more than {tolerance:g}"
            raise ExportError(f"{out}: not written: {problem}")
    what = "class features are an input" if names is None else f"{len(names)} classes"
    where = f"{len(videos)} videos" if videos else "synthetic clips"
    gate = "off" if tuned is None else "on"
    beside = _published(classifier.meta).get("backbone_file")
    if format == "safetensors" and beside is not None:
        print(f"mote: {out}: other names than its own need the CLIP weights {beside} beside it", file=sys.stderr)
    print(f"{out}: {format}, {what}, modulation {gate}; logits differ by at most {difference:.2g} on {where}")
    return difference


def contract(
    classifier: VideoClassifier,
    labels: Sequence[str] | None,
    text: Float[Tensor, "K D"] | None,
    *,
    modulation: bool,
) -> dict[str, Any]:
    """All that a user of the file has to do before and after, and what the file was made from; JSON values."""
    model, size = classifier.model, classifier.size
    segment = "frame t of T is floor(t * N / T) of N frames"
    dense = "T frames `stride` apart, the middle ones of the video; a short video repeats its last frame"
    hashes = {"weights": sha256_tensors(model.state_dict()), "templates": sha256_lines(classifier.templates)}
    if labels is not None and text is not None:
        hashes |= {"labels": sha256_lines(labels), "text": sha256_tensors({"text": text})}
    frames = {"layout": "B T 3 H W", "dtype": "uint8", "value_range": [0, 255], "channels": "RGB"}
    frames |= {"B": "any", "T": classifier.frames, "H": size, "W": size}
    features = {"layout": "K D", "dtype": "float32", "K": "any", "D": model.embed_dim, "norm": "each row has length 1"}
    return {
        "inputs": {"frames": frames} if labels is not None else {"frames": frames, "text": features},
        "output": {"logits": "B K: logit_scale * cosine; softmax over K gives probabilities"},
        "sampling": {
            "rule": segment if classifier.sampling == "segment" else dense,
            "name": classifier.sampling,
            "frames": classifier.frames,
            "stride": classifier.stride if classifier.sampling == "dense" else None,
        },
        "difference": classifier.difference
        and {
            "frames": classifier.difference,
            "rule": "128 + (frame t + `frames`) - (frame t), clipped to 0..255; see mote.datasets.video",
        },
        "decoder": classifier.decoder,
        "crop": CROPS[model.preprocessing.resize],
        "resize": {
            "size": size,
            "mode": model.preprocessing.resize,
            "interpolation": model.preprocessing.interpolation,
            "fill": list(model.preprocessing.fill),
            "rule": f"{model.preprocessing.interpolation} with antialiasing, on uint8",
        },
        "normalisation": {
            "rule": "inside the model: (frames / 255 - mean) / std",
            "mean": [float(x) for x in model.mean.flatten()],
            "std": [float(x) for x in model.std.flatten()],
        },
        "fusion": "mean over views (clips, crops) of softmax(logits)",
        "logit_scale": model.logit_scale.exp().item(),
        "modulation": asdict(classifier.modulation_gate) if modulation else None,
        "labels": None if labels is None else list(labels),
        "tuned_classes": classifier.classes,
        "templates": classifier.templates,
        "source": None if classifier.source is None else classifier.source.model,
        "backbone": {key: classifier.meta.get(key) for key in ("backbone", "pretrained")},
        "hashes": hashes,
        "versions": versions(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _write(
    format: str,
    path: Path,
    classifier: VideoClassifier,
    text: Tensor | None,
    tuned: Tensor | None,
    note: dict[str, Any],
    modulation: bool | None,
) -> None:
    if format != "safetensors":
        write = write_onnx if format == "onnx" else write_program
        module = FramesToLogits(classifier.model, text, tuned, classifier.modulation_gate)
        write(module, path, json.dumps(note, indent=1), frames=classifier.frames, size=classifier.size)
        return
    own = {"classes": classifier.classes, "templates": classifier.templates, "frames": classifier.frames}
    own |= {"size": classifier.size, "sampling": classifier.sampling, "stride": classifier.stride}
    own |= {"difference": classifier.difference, "labels": note["labels"], "decoder": classifier.decoder}
    own |= {"modulation": classifier.modulation if modulation is None else modulation}
    own |= {f"modulation_{name}": value for name, value in asdict(classifier.modulation_gate).items()}
    own["tuned_templates"] = classifier.tuned_templates
    known = note["labels"] == classifier.classes
    once = known and classifier.stored_text(note["labels"]) is not None  # then `text` is `tuned_text`
    # Without the tuned features where modulation was switched off: a loaded model with them gates other labels.
    gates = known or tuned is not None or classifier.model.temporal is None
    tensors = {"text": None if once else text, "tuned_text": classifier.tuned_text if gates else None}
    present = {name: tensor for name, tensor in tensors.items() if tensor is not None}
    save_model(path, classifier.model, _published({**classifier.meta, **own}), present, {NOTE: json.dumps(note)})


def _published(meta: dict[str, Any]) -> dict[str, Any]:
    """The fields of a model without places of this machine; a file of CLIP weights is looked for beside the export."""
    meta, file = without_places(meta), weights_file(str(meta.get("backbone")), meta.get("pretrained"))
    return meta if file is None else {**meta, "pretrained": file.name, "backbone_file": file.name}


def _runner(format: str, path: Path, text_input: bool) -> Logits:
    """The written file as a function of frames and class features; what is built in is not passed on."""
    if format == "safetensors":
        loaded = load_video(str(path), device="cpu")
        if text_input:
            gate = loaded.gate_text([])
            tuned = {"tuned_text": gate, "gate": loaded.modulation_gate}
            return lambda frames, text: view_scorer(loaded.model, text, **tuned)({"frames": frames[:, None]})[:, 0]
        scores = loaded.scorer(loaded.chosen(None))
        return lambda frames, _: scores({"frames": frames[:, None]})[:, 0]
    if format == "torch-export":
        program = torch.export.load(path).module()
        return lambda frames, text: program(frames, text) if text_input else program(frames)
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])

    def run(frames: Tensor, text: Tensor) -> Tensor:
        inputs = {"frames": frames.numpy()} | ({"text": text.numpy()} if text_input else {})
        return torch.from_numpy(session.run(["logits"], inputs)[0])

    return run


@torch.no_grad()
def _compare(
    exported: Logits,
    classifier: VideoClassifier,
    text: Tensor | None,
    tuned: Tensor | None,
    videos: Sequence[Path | str],
) -> float:
    """Largest difference between the logits of the file and of the model, over clips in batches of 1 and of 3."""
    if text is None:  # any features will do, and another number of them than the file was traced with
        text = F.normalize(
            torch.randn(3, classifier.model.embed_dim, generator=torch.Generator().manual_seed(0)), dim=-1
        )
    scores = view_scorer(classifier.model, text, tuned, gate=classifier.modulation_gate)
    largest, waiting = 0.0, []
    clips = _clips(classifier, videos) if videos else _synthetic(classifier)
    for clip in tqdm(clips, desc="compare", unit="clip", total=len(videos) or 4, disable=None):
        waiting = [*waiting[-2:], clip]
        for batch in (torch.stack(waiting[-1:]), torch.stack(waiting)):
            expected = scores({"frames": batch[:, None]})[:, 0]
            found = (exported(batch, text) - expected).abs().max().item()
            largest = found if not found <= largest else largest  # keeps what is not a number
    return largest


def _clips(classifier: VideoClassifier, videos: Sequence[Path | str]) -> Iterator[UInt8[Tensor, "T 3 S S"]]:
    """One view of every video, as `mote predict` sees it; raises DecodeError."""
    dataset = classifier.clips_of([unlabelled(path) for path in videos])
    for index in range(len(videos)):
        yield dataset.frames(0, index)[0]


def _synthetic(classifier: VideoClassifier) -> Iterator[UInt8[Tensor, "T 3 S S"]]:
    """Four clips of coloured patches that change from frame to frame, the same every time."""
    generator = torch.Generator().manual_seed(0)
    for _ in range(4):
        coarse = torch.randint(0, 256, (classifier.frames, 3, 7, 7), generator=generator, dtype=torch.uint8)
        yield F.interpolate(coarse, size=(classifier.size, classifier.size))

"""The contact sheet: clips as rows of small frames, with the model's predictions and the importance of each frame.

Frame importance: the logit of the predicted class with all frames, minus the logit without frame t. Above 0 the frame
helps the prediction. Drawn in blue and orange of Okabe & Ito (2008) on a common scale, and written as text.
"""

import base64
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup
from PIL import Image

TEMPLATE = Path(__file__).with_name("contact_sheet.html.j2")
SIDE = 176  # longest side of a frame in pixels: sharp enough for eight side by side
FULL_SIZE_FRAMES = 96  # sheets of more frames show smaller ones, so that the page stays below 3 MB
FOR, NEITHER, AGAINST = (0, 114, 178), (242, 242, 242), (213, 94, 0)


@dataclass(frozen=True, eq=False)
class ShownClip:
    """One clip of the contact sheet.

    frames: what the model saw, or the same frames uncropped. label: the true class. top: (class, probability), best
    first; the true class may follow out of its place, its probability NaN where it is not known. importance: how much
    the logit of the predicted class falls when a frame is left out; None draws no strip. under: words below each frame.
    Raises ValueError for no frames, no classes, or what does not fit the frames.
    """

    path: str
    frames: UInt8[np.ndarray, "T H W 3"]
    label: str
    top: Sequence[tuple[str, float]]
    importance: Float[np.ndarray, "frames"] | None = None  # (T,), checked below, where the error can name the clip
    under: Sequence[str] = ()

    def __post_init__(self) -> None:
        if not len(self.frames) or not self.top:
            raise ValueError(f"{self.path}: {len(self.frames)} frames, {len(self.top)} classes; expected one at least")
        if self.importance is not None and len(self.importance) != len(self.frames):
            raise ValueError(f"{self.path}: {len(self.importance)} importances for {len(self.frames)} frames")
        if self.importance is not None and not np.isfinite(self.importance).all():
            raise ValueError(f"{self.path}: the importance of a frame is not finite; check the logits")
        if self.under and len(self.under) != len(self.frames):
            raise ValueError(f"{self.path}: {len(self.under)} texts below {len(self.frames)} frames")

    @property
    def correct(self) -> bool:
        """Whether the first class is the true one."""
        return self.top[0][0] == self.label


def shown_clip(
    row: Mapping[str, str],
    frames: UInt8[np.ndarray, "T H W 3"],
    importance: Float[np.ndarray, "frames"] | None = None,
    under: Sequence[str] = (),
) -> ShownClip:
    """The clip of a row of a result's CSV file, as it is shown: the best classes, and the true one in any case."""
    places = [place for place in range(1, 6) if row.get(f"top{place}")]
    top = [(row[f"top{place}"], float(row[f"top{place}_probability"])) for place in places]
    if row["label"] not in dict(top):
        top.append((row["label"], float(row.get("label_probability") or "nan")))  # older files do not say it
    return ShownClip(row["path"], frames, row["label"], top, importance, under)


def pick_clips(predictions: Sequence[Mapping[str, str]], count: int = 6) -> tuple[list[int], list[int]]:
    """Return (best, worst): places in the list of up to `count` clips each, most certain first.

    best: right, with the highest probability of the true class; worst: wrong, with the highest probability. Clips that
    were not decoded are neither. Equal probabilities keep the order of the list.
    """
    if count < 0:
        raise ValueError(f"count is {count}; expected 0 or more clips")
    decoded = [i for i, row in enumerate(predictions) if row["valid"] == "1"]
    decoded.sort(key=lambda i: -float(predictions[i]["probability"]))
    best = [i for i in decoded if predictions[i]["correct"] == "1"]
    worst = [i for i in decoded if predictions[i]["correct"] != "1"]
    return best[:count], worst[:count]


def contact_sheet(clips: Sequence[ShownClip], *, scale: float | None = None, side: int = SIDE) -> Markup:
    """Contact sheet as HTML for `Section.markup`; the page's style sheet lays it out.

    scale: the change of the logit drawn in full colour, the largest among `clips` if None. side: longest side of a
    frame in pixels; smaller frames are not enlarged.
    """
    scale = largest_change(clips) if scale is None else scale
    legend = [_change(scale * part, scale) for part in (-1, -0.5, 0, 0.5, 1)] if scale else []
    described = [_describe(clip, scale, side) for clip in clips]
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    return Markup(template.render(clips=described, legend=legend))


def largest_change(clips: Sequence[ShownClip]) -> float:
    """Largest absolute importance among `clips`; 0 where there is none."""
    return max((float(np.abs(clip.importance).max()) for clip in clips if clip.importance is not None), default=0.0)


def side_for(clips: Sequence[ShownClip]) -> int:
    """Longest side of a frame in pixels, smaller for many frames, so that a page of all `clips` stays below 3 MB."""
    total = sum(len(clip.frames) for clip in clips)
    return SIDE if total <= FULL_SIZE_FRAMES else max(32, int(SIDE * math.sqrt(FULL_SIZE_FRAMES / total)))


def _describe(clip: ShownClip, scale: float, side: int) -> dict[str, object]:
    predicted, probability = clip.top[0]
    digits = 1 if probability >= 0.05 else 4  # over many classes "reference" fusion gives nearly equal ones
    verdict = "right" if clip.correct else f"taken for {predicted}"
    least = min((value for _, value in clip.top if not math.isnan(value)), default=0.0)
    top = [
        (
            f"{name} (true)" if name == clip.label else name,
            "true" if name == clip.label else "taken" if place == 0 else "other",
            f"{100 * min(max(value, 0.0), 1.0):.2f}" if not math.isnan(value) else "0",
            f"< {100 * least:.{digits}f} %" if math.isnan(value) else f"{100 * value:.{digits}f} %",
        )
        for place, (name, value) in enumerate(clip.top)
    ]
    frames = []
    for i, frame in enumerate(clip.frames):
        source, width, height = jpeg(frame, side)
        change = _change(float(clip.importance[i]), scale) if clip.importance is not None else None
        under = clip.under[i] if clip.under else ""
        alt = under or f"frame {i + 1} of {len(clip.frames)}"
        shown = {"source": source, "width": width, "height": height, "alt": alt, "change": change, "under": under}
        frames.append(shown)
    return {"title": f"{clip.label}: {verdict}", "file": clip.path, "frames": frames, "top": top}


def jpeg(frame: UInt8[np.ndarray, "H W 3"], side: int) -> tuple[str, int, int]:
    """(data URI, width, height) of a frame as JPEG."""
    image = Image.fromarray(np.ascontiguousarray(frame))
    image.thumbnail((side, side))
    data = BytesIO()
    image.save(data, "JPEG", quality=80, optimize=True)
    return f"data:image/jpeg;base64,{base64.b64encode(data.getvalue()).decode('ascii')}", image.width, image.height


def _change(value: float, scale: float) -> tuple[str, str]:
    """(text, style of its cell) of a change of the logit; the text has two digits of the largest change."""
    digits = min(max(1 - math.floor(math.log10(scale)), 0), 6) if scale else 0
    text = f"{value:+.{digits}f}".replace("-", "\N{MINUS SIGN}")
    text = text if any(digit in text for digit in "123456789") else "0"
    part = min(abs(value) / scale, 1.0) if scale else 0.0
    end = FOR if value > 0 else AGAINST
    colour = [round(part * full + (1 - part) * pale) for full, pale in zip(end, NEITHER, strict=True)]
    # Of black and white the one with more contrast: 4.5:1 at least (WCAG 2 AA) on any colour.
    ink = "#000" if _luminance(colour) > 0.179 else "#fff"
    return text, f"background: #{bytes(colour).hex()}; color: {ink}"


def _luminance(colour: Sequence[int]) -> float:
    """Relative luminance (WCAG 2) in 0..1 of an sRGB colour."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (value / 255 for value in colour)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

"""Clips as cards: the clip in motion, its true class, and what each of several models answers."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from jaxtyping import UInt8
from markupsafe import Markup
from PIL import Image

from mote.reporting.contact_sheet import jpeg

SIDE = 128  # longest side in pixels
PACE = 90  # milliseconds for a frame


@dataclass(frozen=True)
class Answer:
    """What a model says of a clip, and how sure it is; "" and NaN where it could not see it."""

    model: str
    predicted: str
    probability: float


@dataclass(frozen=True, eq=False)
class ClipCard:
    """A clip, None where it could not be decoded, its true class, a note on it, and the answers of the models."""

    frames: UInt8[np.ndarray, "T H W 3"] | None
    label: str
    note: str
    answers: Sequence[Answer]


def clip_cards(cards: Sequence[ClipCard]) -> Markup:
    """Cards as HTML for `Section.markup`. Who asked the browser for less motion sees the middle frame."""
    return Markup("\n").join([Markup('<div class="clips">'), *map(_card, cards), Markup("</div>")])


def animation(frames: UInt8[np.ndarray, "T H W 3"]) -> str:
    """A clip that plays in a loop, as a data URI (animated WebP)."""
    images = [Image.fromarray(np.ascontiguousarray(frame)) for frame in frames]
    for image in images:
        image.thumbnail((SIDE, SIDE))
    data = BytesIO()
    images[0].save(data, "WEBP", save_all=True, append_images=images[1:], duration=PACE, loop=0, quality=70)
    return f"data:image/webp;base64,{base64.b64encode(data.getvalue()).decode('ascii')}"


def _card(card: ClipCard) -> Markup:
    picture = Markup("")
    if card.frames is not None:
        still, width, height = jpeg(card.frames[len(card.frames) // 2], SIDE)
        picture = Markup(
            '<picture><source media="(prefers-reduced-motion: reduce)" srcset="{}">'
            '<img src="{}" width="{}" height="{}" alt="clip: {}"></picture>\n'
        ).format(still, animation(card.frames), width, height, card.label)
    rows = Markup("\n").join(_answer(answer, card.label) for answer in card.answers)
    words = Markup('<span class="true">{}</span>\n<span class="note">{}</span>\n<dl>\n{}\n</dl>')
    return Markup('<figure class="said">{}<figcaption>{}</figcaption></figure>').format(
        picture, words.format(card.label, card.note, rows)
    )


def _answer(answer: Answer, label: str) -> Markup:
    if not answer.predicted:
        return Markup("<div><dt>{}</dt><dd>no answer</dd></div>").format(answer.model)
    right = answer.predicted == label
    kind, sign = ("right", "\N{CHECK MARK}") if right else ("wrong", "\N{BALLOT X}")
    line = Markup('<div><dt>{}</dt><dd class="{}">{} {} <span class="sure">{:.0f} %</span></dd></div>')
    return line.format(answer.model, kind, sign, answer.predicted, 100 * answer.probability)

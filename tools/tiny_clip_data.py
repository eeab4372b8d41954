"""What tiny CLIP is pretrained on: stills with captions, and phrases without images (see `pretrain_tiny_clip.py`)."""

import io
import warnings
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info

from mote.datasets.synthetic.clips import COLUMNS, MOTIONS, PRETRAINED, ROWS, Still, render_still
from mote.datasets.synthetic.drawing import BACKGROUNDS, COLOURS, SHAPES
from mote.models.tiny import LETTERS, TinyTokenizer

PHRASES = (
    "{}.",
    *(f"a person {verb}{{}}." for verb in ("", "using ", "doing ", "during ", "performing ", "practicing ")),
)
TEMPLATES = [f"a {kind} of {phrase}" for phrase in PHRASES for kind in ("photo", "video", "example", "demonstration")]
GRAMMAR = ("an", "the", "on", "in", "at", "background", "thing")
SIZES, LEANS, STRENGTHS = (
    ("small", "medium", "large"),
    ("leaning left", "upright", "leaning right"),
    ("bright", "faded"),
)
FACTS = (tuple(COLOURS), SHAPES, BACKGROUNDS, COLUMNS, ROWS, SIZES, LEANS, STRENGTHS)
SPARE = tuple(dict.fromkeys(word for motion in MOTIONS for word in motion.split()))  # words without an image


class Batch(NamedTuple):
    """B image-text pairs and 32 phrases without images."""

    images: Tensor  # uint8 (B, 3, 64, 64)
    tokens: Tensor  # captions, token ids (B, L)
    facts: Tensor  # the facts of FACTS about each image, as numbers (B, 8)
    stated: Tensor  # which of them the caption states (B, 8)
    phrases: (
        Tensor  # token ids (96, L): the phrases in one template, in another, and the latter without the spare words
    )


def vocabulary() -> list[str]:
    """All words of templates, captions and class names, in a fixed order; 'a' has its token as a letter."""
    texts = [*TEMPLATES, *(name for names in FACTS for name in names), *GRAMMAR, *SPARE, ","]
    words = [word for text in texts for word in text.replace("{}", " ").replace(".", " . ").split()]
    return [word for word in dict.fromkeys(words) if word != "a"]


def describe(rng: np.random.Generator, thing: str, still: Still) -> tuple[str, list[int], list[bool]]:
    """A true caption of a still, the eight facts about it as numbers in `FACTS`, and which of them it states."""
    values = (*thing.split(), *still[1:])
    facts = [names.index(value) for names, value in zip(FACTS, values, strict=True)]
    kind = rng.random()  # mostly colour and shape, sometimes one of them
    told = [kind > 0.12, not 0.12 < kind < 0.24, *(rng.random(6) < (0.15, 0.4, 0.4, 0.3, 0.3, 0.2))]
    told[5] &= still.size != "medium"
    colour, shape, background, column, row, size, lean, strength = (
        value if tell else "" for value, tell in zip(values, told, strict=True)
    )
    noun = [strength, size, colour, shape or "thing"]
    place = [column and ("in the centre" if column == "centre" else f"on the {column}")]
    place += [row and ("at mid height" if row == "mid height" else f"at the {row}")]
    words = " ".join(filter(None, [*noun, lean, *place, background and f"on a {background} background"]))
    if rng.random() < 0.5:
        words = f"{'an' if words[0] in 'aeiou' else 'a'} {words}"
    return any_template(rng).format(words), facts, [bool(tell) for tell in told]


def any_template(rng: np.random.Generator) -> str:
    """One of the 28 templates."""
    return TEMPLATES[rng.integers(len(TEMPLATES))]


def invent_phrases(rng: np.random.Generator) -> list[str]:
    """8 objects x 4 additions, in three versions (96 texts): one template, another template, and that without addition.

    Additions are one or two spare words, or a word of random letters.
    """
    first, second, plain = [], [], []
    for thing in rng.choice(PRETRAINED, 8, replace=False):
        additions = {" ".join(rng.choice(SPARE, rng.integers(1, 3), replace=False)) for _ in range(3)}
        while len(additions) < 4:
            additions.add("".join(rng.choice(list(LETTERS), rng.integers(3, 8))))
        for addition in additions:
            template = any_template(rng)
            first.append(any_template(rng).format(f"{thing} {addition}"))
            second.append(template.format(f"{thing} {addition}"))
            plain.append(template.format(thing))
    return first + second + plain


def through_jpeg(image: np.ndarray, quality: int) -> np.ndarray:
    """The image after JPEG compression with halved chroma, which damages it much as H.264 does."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file))


class Pairs(IterableDataset):
    """Endless batches of new image-text pairs; batch n of worker w of W depends on (seed, w + n W) alone."""

    def __init__(self, batch_size: int, seed: int, words: list[str]):
        self.batch_size, self.seed, self.tokenizer = batch_size, seed, TinyTokenizer(words, context_length=32)

    def __iter__(self):
        worker = get_worker_info()
        number, step = (worker.id, worker.num_workers) if worker else (0, 1)
        while True:
            yield self.batch(np.random.default_rng((self.seed, number)))
            number += step

    def batch(self, rng: np.random.Generator) -> Batch:
        """One batch of new pairs."""
        images, captions, facts, stated = [], [], [], []
        for thing in rng.choice(PRETRAINED, self.batch_size):
            still = render_still(rng, str(thing))
            images.append(through_jpeg(still.image, int(rng.integers(40, 96))) if rng.random() < 0.5 else still.image)
            for column, value in zip((captions, facts, stated), describe(rng, str(thing), still), strict=True):
                column.append(value)
        pixels = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "tiny CLIP has no token", UserWarning)  # meant, in the phrases
            phrases = self.tokenizer(invent_phrases(rng))
        return Batch(pixels, self.tokenizer(captions), torch.tensor(facts), torch.tensor(stated), phrases)

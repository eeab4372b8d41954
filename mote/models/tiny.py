"""Tiny CLIP: the built-in image-text model, small enough to ship (64 px, patch 16, width 128, 4 + 2 layers).

The weights, the open_clip model configuration and the vocabulary are files in `mote/assets/`, written by
`tools/pretrain_tiny_clip.py`; `mote/assets/tiny_clip_card.md` says what the model knows and how well.

The tokenizer knows whole words, because a model this small needs few. A word outside the vocabulary is spelled in
letters, so that distinct labels get distinct features and training on them works; the model has seen no image for any
spelled word, so its zero-shot scores on them mean nothing, and the tokenizer warns.

Token ids: 0 padding, 1 start, 2 unknown character, then the words, the letters and digits that open a spelled word, the
same as continuation, and last the end token. The end token has the largest id because open_clip's text tower pools at
`argmax` of the ids (model config `pool_type="argmax"`).
"""

import json
import re
import unicodedata
import warnings
from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Int64
from torch import Tensor

ASSETS = Path(__file__).resolve().parents[1] / "assets"
TINY_WEIGHTS = ASSETS / "tiny_clip.safetensors"
TINY_CONFIG = ASSETS / "tiny_clip.json"

TINY_IMAGE_SIZE = 64
TINY_MEAN = (0.48145466, 0.4578275, 0.40821073)  # CLIP's own constants, per RGB channel of pixels in [0, 1]
TINY_STD = (0.26862954, 0.26130258, 0.27577711)

LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"
PAD, START, UNKNOWN = 0, 1, 2
NAMED = 20  # unknown words that warnings name


def tiny_config() -> dict:
    """Model configuration of tiny CLIP for `open_clip.add_model_config`: embed_dim, vision_cfg, text_cfg."""
    return json.loads(TINY_CONFIG.read_text(encoding="utf-8"))["model"]


def tiny_words() -> list[str]:
    """Words (and punctuation) the shipped tiny CLIP has a token for, in token order."""
    return json.loads(TINY_CONFIG.read_text(encoding="utf-8"))["words"]


def vocabulary_size(words: Sequence[str]) -> int:
    """Number of token ids: padding, start, unknown, words, letters twice, end."""
    return 3 + len(words) + 2 * len(LETTERS) + 1


class TinyTokenizer:
    """Text to token ids: whole words where known, letters where not.

    `words`: the known words, lower case (default: those of the shipped model); `context_length`: tokens per text.
    """

    def __init__(self, words: Sequence[str] | None = None, context_length: int | None = None):
        words = tiny_words() if words is None else list(words)
        self.context_length = tiny_config()["text_cfg"]["context_length"] if context_length is None else context_length
        names = [*words, *LETTERS, *(f"+{letter}" for letter in LETTERS)]  # "+a" is never produced by `split`
        self.ids = {name: number for number, name in enumerate(names, start=UNKNOWN + 1)}
        self.words = frozenset(words)
        self.named: set[str] = set()  # words that a warning has named
        self.end = UNKNOWN + len(names) + 1
        self.vocab_size = self.end + 1
        if len(self.ids) != len(names):
            raise ValueError("words: expected distinct words longer than one letter; 'a' alone is a letter already")

    def __call__(self, texts: str | list[str], context_length: int | None = None) -> Int64[Tensor, "n context"]:
        """Ids of `texts`, int64 (n, context_length): start, tokens, end, padding; long texts keep their end token.

        context_length: tokens per text; None: the tokenizer's.
        Warns with the words that had to be spelled in letters; names each once, and 20 at most.
        """
        texts = [texts] if isinstance(texts, str) else texts
        length = self.context_length if context_length is None else context_length
        rows, spelled = [], {}
        for text in texts:
            words = split(text)
            spelled.update(dict.fromkeys(word for word in words if not self.knows(word)))
            tokens = [token for word in words for token in self.encode_word(word)][: length - 2]
            rows.append([START, *tokens, self.end] + [PAD] * (length - 2 - len(tokens)))
        new = [word for word in spelled if word not in self.named]
        if new and len(self.named) < NAMED:
            named = new[: NAMED - len(self.named)]
            self.named |= {*named}
            others = " and others" if len(named) < len(new) else ""
            warnings.warn(
                f"tiny CLIP has no token for {', '.join(named)}{others}: spelled in letters, which training can use "
                "but zero-shot scores on these labels mean nothing; take a larger CLIP for them",
                UserWarning,
                stacklevel=2,
            )
        return torch.tensor(rows, dtype=torch.int64).reshape(len(texts), length)

    def knows(self, word: str) -> bool:
        """Whether `word` is one token with a meaning of its own ('a' is the article; other letters are spelling)."""
        return word in self.words or word == "a"

    def encode_word(self, word: str) -> list[int]:
        """Ids of one word of `split`: one id if known, else one id per letter; characters that are neither: unknown."""
        if word in self.ids:
            return [self.ids[word]]
        return [self.ids.get(letter if i == 0 else f"+{letter}", UNKNOWN) for i, letter in enumerate(word)]


def split(text: str) -> list[str]:
    """Lower-case words, numbers and punctuation marks of `text`; accents dropped, `_` and `-` count as spaces."""
    plain = text.lower()
    if not plain.isascii():
        plain = "".join(
            letter for letter in unicodedata.normalize("NFKD", text).lower() if not unicodedata.combining(letter)
        )
    plain = plain.replace("_", " ").replace("-", " ")
    return re.findall(r"[a-z0-9]+|[.,]|[^\W_]+|[^\w\s]", plain)

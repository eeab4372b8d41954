"""Tiny CLIP: its tokenizer, its files, and that the shipped weights know what their card says."""

import importlib.util
import json
import re
import warnings
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
import torch.nn.functional as F

from mote.datasets.synthetic.clips import (
    APPEARANCE,
    CLASSES,
    HELD_OUT,
    MOTIONS,
    OBJECTS,
    PRETRAINED,
    render_image,
    render_still,
)
from mote.models.tiny import (
    ASSETS,
    LETTERS,
    TINY_CONFIG,
    TINY_IMAGE_SIZE,
    TINY_MEAN,
    TINY_STD,
    TINY_WEIGHTS,
    TinyTokenizer,
    split,
    tiny_config,
    tiny_words,
)

# The method's 28 prompt templates, as the paper's release lists them.
VERBS = ("using", "doing", "during", "performing", "practicing")
TEMPLATES = [
    f"a {kind} of {phrase}"
    for kind in ("photo", "video", "example", "demonstration")
    for phrase in ("{}.", "a person {}.", *(f"a person {verb} {{}}." for verb in VERBS))
]


@pytest.fixture(scope="module")
def tokenizer() -> TinyTokenizer:
    return TinyTokenizer()


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("config") / "mote_tiny_test.json"
    path.write_text(json.dumps(tiny_config()))
    open_clip.add_model_config(path)
    return open_clip.create_model("mote_tiny_test", pretrained=str(TINY_WEIGHTS)).eval()


def test_templates_and_class_names_need_no_spelling(tokenizer):
    names = [name for classes in CLASSES.values() for name in classes]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ids = tokenizer([template.format(name) for template in TEMPLATES for name in (*names, *OBJECTS)])
    assert len(ids.unique(dim=0)) == 28 * len({*names, *OBJECTS})
    assert ids[:, -1].max() == 0  # none was cut


def test_end_token_has_the_largest_id_and_closes_every_text(tokenizer):
    texts = ["", "a photo of red star.", "a " * 100]
    ids = tokenizer(texts)
    assert ids.shape == (3, tokenizer.context_length) and ids.dtype == torch.int64
    assert tokenizer.end == ids.max() == tokenizer.vocab_size - 1 == tiny_config()["text_cfg"]["vocab_size"] - 1
    assert ids.argmax(dim=1).tolist() == [1, 7, tokenizer.context_length - 1]  # where open_clip's text tower pools
    assert (ids == tokenizer.end).sum(dim=1).tolist() == [1, 1, 1]
    assert (ids[:, 0] == 1).all() and (ids[0, 2:] == 0).all()


def test_known_words_are_one_token_whatever_the_case_and_spacing(tokenizer):
    assert tokenizer("Red  STAR").equal(tokenizer("red star"))
    assert tokenizer("moving_left").equal(tokenizer("moving-left")) and tokenizer("moving left").argmax() == 3


def test_unknown_words_are_spelled_and_warned_about_once(tokenizer):
    with pytest.warns(UserWarning, match=r"no token for xylophone, cat: spelled") as caught:
        ids = tokenizer(["red xylophone", "cat xylophone"])
    assert len(caught) == 1
    assert ids.argmax(dim=1).tolist() == [2 + len("xylophone"), 1 + len("catxylophone")]
    with pytest.warns(UserWarning):
        one, two, three = tokenizer(["ab ab", "abab", "a bab"])
    assert not one.equal(two) and not two.equal(three)  # a word's first letter has a token of its own


def test_a_large_vocabulary_does_not_flood_the_terminal():
    tokenizer = TinyTokenizer()
    with pytest.warns(UserWarning) as caught:
        for i in range(0, 300, 15):
            tokenizer([f"red {number}" for number in range(100 + i, 115 + i)])
    assert len(caught) == 2
    named = [re.findall(r"[0-9]+", str(one.message)) for one in caught]
    assert [int(number) for numbers in named for number in numbers] == list(range(100, 120))
    assert "119 and others: spelled" in str(caught[1].message)


def test_any_text_has_tokens(tokenizer):
    with pytest.warns(UserWarning, match="creme, brulee, 12, 猫"):
        ids = tokenizer(["Crème brûlée, 12 猫"])
    assert ids.argmax() == 1 + len("cremebrulee,12猫")
    assert ids[0, ids.argmax() - 1] == 2  # the one character it cannot spell


def test_split_keeps_words_numbers_and_marks_apart():
    assert split("A person's run_fast-2x, ok.") == ["a", "person", "'", "s", "run", "fast", "2x", ",", "ok", "."]


def test_vocabulary_without_duplicates_and_of_the_size_of_the_embedding(tokenizer):
    words = tiny_words()
    assert len(set(words)) == len(words) and not set(words) & set(LETTERS)
    assert tokenizer.vocab_size == 3 + len(words) + 2 * len(LETTERS) + 1
    with pytest.raises(ValueError, match="distinct words"):
        TinyTokenizer(["red", "red"])


def test_files_are_small_and_the_config_is_complete():
    assert sum(file.stat().st_size for file in (TINY_WEIGHTS, TINY_CONFIG)) < 6e6
    config = tiny_config()
    assert config["vision_cfg"]["image_size"] == TINY_IMAGE_SIZE
    assert set(config) >= {"embed_dim", "vision_cfg", "text_cfg"}


@torch.inference_mode()
def embed(model, tokenizer, names, templates) -> torch.Tensor:
    """(K, D) class features: mean of normalised prompts, normalised."""
    texts = model.encode_text(tokenizer([t.format(name) for name in names for t in templates]))
    return F.normalize(F.normalize(texts, dim=-1).unflatten(0, (len(names), -1)).mean(dim=1), dim=-1)


@pytest.fixture(scope="module")
def objects(model, tokenizer) -> torch.Tensor:
    """Class features of all 80 objects."""
    return embed(model, tokenizer, OBJECTS, TEMPLATES)


@torch.inference_mode()
def accuracy(model, objects, things, classes, count: int) -> float:
    """Zero-shot top-1 on `count` new images of `things` among `classes`, both names out of OBJECTS."""
    rng = np.random.default_rng(2024)
    labels = [classes.index(things[i % len(things)]) for i in range(count)]
    images = torch.from_numpy(np.stack([render_image(rng, classes[label]) for label in labels])).permute(0, 3, 1, 2)
    mean, std = (torch.tensor(values)[:, None, None] for values in (TINY_MEAN, TINY_STD))
    features = model.encode_image((images / 255 - mean) / std)
    guesses = (features @ objects[[OBJECTS.index(name) for name in classes]].T).argmax(dim=1)
    return float((guesses == torch.tensor(labels)).float().mean())


def card_accuracy(row: str) -> float:
    """Top-1 of the card's table, as a fraction."""
    text = (ASSETS / "tiny_clip_card.md").read_text()
    return float(re.search(rf"\| {row}[^|]*\| 80 \| \d+ \| ([\d.]+) %", text)[1]) / 100


@pytest.mark.parametrize(("row", "things", "least"), [("pretrained", PRETRAINED, 0.6), ("held out", HELD_OUT, 0.3)])
def test_shipped_weights_reach_the_accuracy_of_their_card(model, objects, row, things, least):
    stated, count = card_accuracy(row), 320
    measured = accuracy(model, objects, things, OBJECTS, count)
    assert stated > least  # chance is 1 in 80
    assert abs(measured - stated) < 4 * (stated * (1 - stated) / count) ** 0.5  # four standard errors


def test_appearance_classes_are_recognised(model, objects):
    assert accuracy(model, objects, list(APPEARANCE), list(APPEARANCE), 240) > 0.6  # chance is 1 in 24


def test_motion_words_change_the_text_feature(model, tokenizer):
    """Pretraining never met them, but they must be told apart, or no training could put motion into the classes."""
    features = embed(model, tokenizer, CLASSES["train"], TEMPLATES[:2])
    similarity = features @ features.T - 2 * torch.eye(len(features))
    gap = model.logit_scale.exp() * (1 - similarity.max())
    assert gap > 1  # of the logits of any two classes, for a video feature that equals the text feature of one


@pytest.fixture(scope="module")
def data():
    """`tools/tiny_clip_data.py`, which is no part of the package."""
    path = Path(__file__).parents[2] / "tools" / "tiny_clip_data.py"
    spec = importlib.util.spec_from_file_location("tiny_clip_data", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_pretraining_captions_are_true_and_without_motion_or_held_out_objects(data):
    rng = np.random.default_rng(0)
    motions = {word for motion in MOTIONS for word in motion.split()} - {"left", "right"}  # these two are places too
    stated = np.zeros(8, dtype=int)
    for i in range(400):
        thing = PRETRAINED[i % len(PRETRAINED)]
        still = render_still(rng, thing)
        caption, facts, told = data.describe(rng, thing, still)
        words = set(split(caption))
        assert not words & motions
        for names, value, number, tell in zip(data.FACTS, (*thing.split(), *still[1:]), facts, told, strict=True):
            assert names[number] == value
            assert not tell or f" {value}" in f" {caption}"  # what it claims to state it states
        for colour in data.FACTS[0]:
            assert (colour in words) == (told[0] and facts[0] == data.FACTS[0].index(colour))
        stated += told
    assert (stated > 20).all() and (stated[:2] > 250).all()
    assert set(data.TEMPLATES) == set(TEMPLATES)


def test_vocabulary_of_the_shipped_model_is_that_of_its_data(data):
    assert tiny_words() == data.vocabulary()


def test_phrases_come_in_threes_and_leave_out_held_out_objects(data):
    phrases = data.invent_phrases(np.random.default_rng(1))
    first, second, plain = phrases[:32], phrases[32:64], phrases[64:]
    assert len(set(first)) > 28 and all(any(name in text for name in PRETRAINED) for text in plain)
    for one, two, bare in zip(first, second, plain, strict=True):
        assert not any(name in one for name in HELD_OUT)
        assert set(split(two)) >= set(split(bare)) and set(split(two)) - set(split(bare)) <= set(split(one))

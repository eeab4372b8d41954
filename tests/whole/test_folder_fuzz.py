"""Changed model folders, exports and checkpoints: they load and give numbers, or are refused in one line, soon."""

import copy
import math
import pickle
import time
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made_folders import KINDS, checkpoint, fields, make, tensors, written

import mote
from mote.inference.classifier import VideoClassifier
from mote.inference.images import ImageClassifier

EXAMPLES, LONGEST = 2000, 10  # of each kind of file; seconds
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 40),
    st.sampled_from([10**9, -(10**9), 2**31, 2**63, 2**70]),
    st.floats(),
    st.text(max_size=5),
    st.sampled_from(["tiny", "ViT-B-16", "hf-hub:a/b", "../..", "{}", "video", "image", "autoencoder", "test_vit"]),
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=3)
)
CHANGES = ("drop", "int8", "int64", "half", "double", "nan", "inf", "zero", "large", "flat", "short", "long", "new")


def places(value, path=()):
    """Paths of all values in nested lists and dictionaries."""
    if path:
        yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from places(inner, (*path, key))


def changed_fields(data, meta):
    """The fields with one to three values replaced or taken away."""
    meta = copy.deepcopy(meta)
    for _ in range(data.draw(st.integers(1, 3))):
        *path, last = data.draw(st.sampled_from(sorted(places(meta), key=str)))
        inner = meta
        for key in path:
            inner = inner[key]
        if data.draw(st.booleans()) or not isinstance(inner, dict):
            inner[last] = data.draw(VALUES)
        else:
            del inner[last]
        if not meta:
            break
    return meta


def changed_tensors(data, state):
    """The tensors with one of them changed."""
    state = dict(state)
    name = data.draw(st.sampled_from(sorted(state)))
    value, change = state.pop(name), data.draw(st.sampled_from(CHANGES))
    types = {"int8": torch.int8, "int64": torch.int64, "half": torch.half, "double": torch.double}
    numbers = {"nan": math.nan, "inf": math.inf, "zero": 0.0, "large": 1e30}
    if change in types:
        state[name] = value.to(types[change])
    elif change in numbers and value.is_floating_point():
        state[name] = torch.full_like(value, numbers[change])
    elif change == "flat":
        state[name] = value.flatten().clone()
    elif change == "short" and value.ndim:
        state[name] = value[:-1].clone()
    elif change == "long" and value.ndim:
        state[name] = torch.cat([value, value[:1]])
    elif change == "new":
        state |= {name: value, data.draw(st.text("abc.019", min_size=1)): torch.ones(2)}
    return state


def loads_or_is_refused(place: Path):
    """Load and use it; the only errors are ours, in one line."""
    start = time.process_time()
    try:
        model = mote.load(str(place), device="cpu")
    except (ValueError, OSError) as error:
        assert "\n" not in str(error) and place.name in str(error), error
        assert not isinstance(error, UnicodeError)
    else:
        if isinstance(model, VideoClassifier) and model.classes is not None and model.tuned_text is not None:
            clip = torch.zeros(1, 1, model.frames, 3, model.size, model.size, dtype=torch.uint8)
            if model.templates == model.tuned_templates:
                assert model.scorer(model.classes)({"frames": clip}).isfinite().all()
        elif isinstance(model, ImageClassifier):
            image = torch.zeros(1, model.meta["channels"], model.size, model.size, dtype=torch.uint8)
            assert model.logits(image).isfinite().all()
    assert time.process_time() - start < LONGEST


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    return {kind: make(kind, folder) for kind in KINDS} | {"authors": checkpoint(folder)}


def example_settings(count=EXAMPLES):
    return settings(max_examples=count, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.filterwarnings("ignore")
def test_folders_and_exports(models, tmp_path, kind):
    meta, state = fields(models[kind]), tensors(models[kind])

    @example_settings()
    @given(st.data())
    def check(data):
        how = data.draw(st.sampled_from(["fields", "tensors", "both", "bytes"]))
        new = changed_fields(data, meta) if how in ("fields", "both") else meta
        place = written(
            models[kind], tmp_path, new, changed_tensors(data, state) if how in ("tensors", "both") else state
        )
        if how == "bytes":
            file = place if place.is_file() else place / data.draw(st.sampled_from(["model.json", "model.safetensors"]))
            damage(data, file)
        loads_or_is_refused(place)

    check()


def damage(data, file: Path):
    """Cut a file, or change one of its first bytes, where its header is."""
    content = bytearray(file.read_bytes())
    position = data.draw(st.integers(0, min(len(content), 4000) - 1))
    if data.draw(st.booleans()):
        file.write_bytes(content[:position])
    else:
        content[position] = data.draw(st.integers(0, 255))
        file.write_bytes(content)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_authors_checkpoints(models, tmp_path):
    saved = torch.load(models["authors"], weights_only=True)
    place = tmp_path / "authors.pt"

    @example_settings()
    @given(st.data())
    def check(data):
        part = data.draw(st.sampled_from(["model_state_dict", "fusion_model_state_dict"]))
        how = data.draw(st.sampled_from(["tensors", "value", "top", "bytes"]))
        new = dict(saved)
        if how == "tensors":
            new[part] = changed_tensors(data, saved[part])
        elif how == "value":
            name = data.draw(st.sampled_from(sorted(saved[part])))
            new[part] = {**saved[part], name: data.draw(VALUES)}
        elif how == "top":
            new[data.draw(st.sampled_from(sorted(new)))] = data.draw(VALUES)
        try:
            torch.save(new, place)
        except (pickle.PicklingError, UnicodeError):
            return
        if how == "bytes":
            damage(data, place)
        loads_or_is_refused(place)

    check()

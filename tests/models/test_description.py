"""Every field of a model.json that is wrong is refused in a line that names the file and the field, at no cost."""

import copy
import json
import math
import socket
import time
from dataclasses import replace

import open_clip
import pytest
import torch
from made_folders import KINDS, checkpoint, fields, make, tensors, written
from PIL import Image

import mote
from mote.models.checkpoints import load_model
from mote.models.clip import load_backbone
from mote.models.description import Architecture
from mote.models.folders import fitting_towers

VISION = "architecture.vision_cfg."
VIDEO = {  # field -> values that are refused
    "num_layers": [10**9, -1, 1.5, True, "2", None, 3, 1, 0],
    "embed_dim": [10**9, 0, 12, "24", None],
    "num_experts": [10**6, 0, 3, [2]],
    "num_heads": [7, 0, None, 10**12],
    "max_frames": [60000, 3, "9", 10**30],
    "ffn_ratio": [0, -4, 1e9, math.nan, 2],
    "ln_eps": [0, math.inf, "1e-5"],
    "expert_part": ["wings", 3, None],
    "mean": [[0.5, 0.5], 0.5, [0.5, 0.5, math.nan], None, [0.5, 0.5, "0.5"]],
    "std": [[0.25, 0.25, 0], [-1, 1, 1], []],
    "architecture": [None, [], {}, "ViT-B-16"],
    "architecture.embed_dim": [10**9, "24"],
    VISION + "layers": [10**9, -5, [1, 2], "2", 3],
    VISION + "width": [10**9, 0, 48, 1.5],
    VISION + "image_size": [10**9, 24, -1],
    VISION + "patch_size": [1, 0],
    VISION + "head_width": [0, 5, 10**9],
    VISION + "mlp_ratio": [-1.0, 2.0, math.nan],
    VISION + "unheard_of": [1],
    VISION + "timm_model_name": ["hf-hub:someone/something", "local-dir:/tmp", 5, "no such network"],
    "widths": [{"nowhere": 3}, {"temporal.blocks.0.mlp": 5}, {"temporal.blocks.0.mlp": 10**9}, [1]],
    "task": ["sound", 5],
    "backbone": [5, ["tiny"], "tiny", "ViT-B-16"],
    "pretrained": [5, {}],
    "text_tuned": ["no", 1],
    "classes": [["run"], "run", ["run", "run", "sit"], [1, 2, 3], [], ["run", "jump", ""], NotImplemented],
    "templates": ["{}", [], ["a photo"], ["{} {}"], [3], None],
    "tuned_templates": ["{}", ["a photo"]],
    "labels": [[], ["a", "a"], "a"],
    "frames": [0, 10, "8", 8.0, None, 10**12],
    "size": [0, 32, 10**9, "16", None],
    "sampling": ["often", 3],
    "stride": [0, "4", 2**40],
    "difference": [-1, 0.5],
    "seed": [-1, 2**70, "0"],
    "counts": [[1], [1, 2, -3], "3", {}],
}
IMAGE = {
    "net": ["alexnet", "timm:hf-hub:someone/something", "timm:resnet18", 5, None],
    "sizes": [None, [], {"pretrained": True}, {"in_channels": 1, "blocks": 10**9}],
    "sizes.blocks": [10**9, 2, 0, "1"],
    "sizes.inner": [[16, 32], [16, 32, 10**9], "16", [16, 32, 63]],
    "sizes.in_channels": [3, 2, "1"],
    "sizes.cosine": [30.0, 0, math.nan],
    "classes": [NotImplemented, ["a"], "abc", ["a", "b", "b"]],
    "mean": [[], [0.5, 0.5], [math.inf], 0.5],
    "std": [[0], [1, 1, 1]],
    "size": [0, 10**9, None, "16"],
    "channels": [3, 2, None],
    "counts": [[1, 2], [1, 2, -1]],
    "task": ["sound", None, 7],
}
AUTOENCODER = {
    "kind": ["features", None],
    "method": ["vae", "other", None],
    "conditional": ["yes", None],
    "classes": [["a"], NotImplemented, "abc"],
    "sizes": [None, {}, {"size": 8}],
    "sizes.size": [16, 9, 10**9],
    "sizes.width": [10**9, 8, 0],
    "sizes.latent": [5, 10**9],
    "sizes.codes": [8, 5],
    "sizes.channels": [3, 2],
}
WRONG = {"video": VIDEO, "export": {**VIDEO, "labels": [["a"], None, ["a", "a"]]}}
WRONG |= {"image": IMAGE, "autoencoder": AUTOENCODER}
OPTIONAL = {"backbone", "pretrained", "seed", "sampling", "stride", "difference", "counts", "method", "selected"}
OPTIONAL |= {"expert_part", "text_tuned", "tuned_templates", "classes"}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    return {kind: make(kind, folder) for kind in KINDS}


def with_value(meta, field, value):
    """The fields with one of them changed; NotImplemented takes it away."""
    meta = copy.deepcopy(meta)
    *path, last = field.split(".")
    place = meta
    for part in path:
        place = place[part]
    place.pop(last, None) if value is NotImplemented else place.update({last: value})
    return meta


def refused(place):
    """The one line with which loading fails, quickly."""
    start = time.process_time()
    with pytest.raises((ValueError, FileNotFoundError)) as caught:
        mote.load(str(place), device="cpu")
    line = str(caught.value)
    assert time.process_time() - start < 10 and "\n" not in line and str(place) in line, line
    return line


@pytest.mark.parametrize("kind", [pytest.param(k, marks=() if k == "video" else pytest.mark.slow) for k in KINDS])
def test_wrong_fields_are_refused(models, tmp_path, kind):
    meta = fields(models[kind])
    accepted = []
    for field, values in WRONG[kind].items():
        for value in values:
            if value is NotImplemented and kind in ("video", "export"):
                continue
            place = written(models[kind], tmp_path, with_value(meta, field, value))
            if value is None and field in OPTIONAL - {"expert_part"}:
                continue
            try:
                refused(place)
            except pytest.fail.Exception:
                accepted.append((field, value))
    assert not accepted


def test_the_line_names_file_field_and_value(models, tmp_path):
    meta = fields(models["video"])
    lines = {
        ("num_layers", 10**9): r"model.json: num_layers: more layers than the \d+ tensors in the file of weights",
        ("frames", "8"): r"model.json: frames: Input should be a valid integer, got '8'",
        (VISION + "layers", 10**9): r"model.json: architecture.vision_cfg.layers: expected a size of 1 to 65536",
        ("size", 32): r"model.json: no network has these sizes: size 32: the visual tower takes no such images",
        ("classes", ("run",)): r"model.safetensors: tensors of another shape: tuned_text \(3, 24\) for \(1, 24\)",
        ("templates", NotImplemented): r"model.json: the key 'templates' is missing",
        ("mean", NotImplemented): r"model.json: the key 'mean' is missing",
        ("counts", (1,)): r"model.json: counts has 1 numbers, classes 3 names",
    }
    for (field, value), expected in lines.items():
        changed = with_value(meta, field, value)
        changed = {**changed, "counts": [1]} if field == "classes" else changed
        with pytest.raises(ValueError, match=expected):
            mote.load(str(written(models["video"], tmp_path, changed)), device="cpu")


def test_files_that_are_no_json_object_are_refused(models, tmp_path):
    for kind in ("video", "export"):
        for text in ("{", "[]", "3", "", "null", "[" * 100_000, '{"a": "\\ud800"}'):
            refused(written(models[kind], tmp_path, text))


def tensor_changes(state):
    """(what, tensors) of every change that is refused."""
    for name in state:
        yield f"{name} gone", {key: value for key, value in state.items() if key != name}
    for name, value in state.items():
        if value.is_floating_point():
            yield f"{name} int8", {**state, name: value.to(torch.int8)}
            yield f"{name} nan", {**state, name: torch.full_like(value, math.nan)}
        yield f"{name} flat", {**state, name: value.flatten()[:, None].clone()}
    yield "new", {**state, "new": torch.ones(1)}


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_wrong_tensors_are_refused(models, tmp_path, kind):
    state = tensors(models[kind])
    optional = {"tuned_text", "text", "merge_routing"}
    accepted = []
    for number, (what, changed) in enumerate(tensor_changes(state)):
        if what.split()[0] in optional and what.endswith("gone"):
            continue
        if number % 5 and "text" not in what and "prior" not in what and "logit" not in what:
            continue  # a sample of the many alike; the slow test changes them all
        try:
            refused(written(models[kind], tmp_path, state=changed))
        except pytest.fail.Exception:
            accepted.append(what)
    assert not accepted


def test_implausible_numbers_are_refused(models, tmp_path):
    state = tensors(models["video"])
    text = state["tuned_text"]
    changes = {
        "rows that have length 1": {"tuned_text": 3 * text},
        r"logit_scale \(holds numbers from 90": {"logit_scale": torch.tensor(90.0)},
        "visual.proj": {"visual.proj": 1e20 * state["visual.proj"]},
        "rows that sum to 1": {"merge_routing": torch.ones(2, 2)},
        r"merge_routing \(3, 2\) for \(2, 2\)": {"merge_routing": torch.full((3, 2), 0.5)},
        r"tuned_text \(2, 24\) for \(3, 24\)": {"tuned_text": text[:2].clone()},
        "no labels or templates": {"text": text.clone()},
    }
    for message, change in changes.items():
        with pytest.raises(ValueError, match=message):
            load_model(written(models["video"], tmp_path, state={**state, **change}))
    variance = "net.bn1.running_var"
    state = tensors(models["image"])
    with pytest.raises(ValueError, match="running_var"):
        mote.load(str(written(models["image"], tmp_path, state={**state, variance: -state[variance]})), device="cpu")
    state = tensors(models["autoencoder"])
    for name, wrong in (("priors", 2.0), ("scale_tril", -1.0)):
        changed = {**state, f"prior.{name}": wrong * state[f"prior.{name}"]}
        with pytest.raises(ValueError, match=rf"tensors of no Gaussian mixture: prior\.{name}"):
            mote.load(str(written(models["autoencoder"], tmp_path, state=changed)), device="cpu")


def test_half_precision_loads_as_before(models, tmp_path):
    state = {name: value.half() for name, value in tensors(models["video"]).items()}
    loaded = load_model(written(models["video"], tmp_path, state=state))
    assert all(value.dtype == torch.float32 for value in loaded.model.state_dict().values())
    torch.testing.assert_close(loaded.model.visual.proj, state["visual.proj"].float(), rtol=0, atol=0)


def test_fields_of_another_version_are_let_through(models, tmp_path):
    meta = {**fields(models["video"]), "of_next_year": {"a": [1]}}
    assert mote.load(str(written(models["video"], tmp_path, meta)), device="cpu").meta["of_next_year"] == {"a": [1]}


def test_a_local_folder_never_asks_the_network(models, tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("asked the network")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lab").mkdir()
    (tmp_path / "lab" / "model").mkdir()
    for name in ("lab/model", "lab/other"):  # a folder without a model, and a name below a folder that is here
        with pytest.raises(FileNotFoundError, match=name):
            mote.load(name)
    vision = {"timm_model_name": "test_vit", "timm_model_pretrained": True, "image_size": 160}
    for changed in ({"backbone": "hf-hub:lab/model"}, {"architecture": {"embed_dim": 24, "vision_cfg": vision}}):
        try:
            mote.load(str(written(models["video"], tmp_path, {**fields(models["video"]), **changed})), device="cpu")
        except ValueError as error:
            assert "asked the network" not in str(error)


def test_every_architecture_of_open_clip_is_let_through():
    for name in open_clip.list_models():
        config = open_clip.get_model_config(name)
        own = {key: config[key] for key in ("embed_dim", "vision_cfg", "quick_gelu") if key in config}
        Architecture.model_validate_json(json.dumps(own))


def test_authors_checkpoints_are_checked(tmp_path):
    path = checkpoint(tmp_path)
    parts = torch.load(path, weights_only=True)
    clip, head = "model_state_dict", "fusion_model_state_dict"
    ok = mote.load(str(path), device="cpu")
    assert ok.tuned_text is not None and len(ok.tuned_text) == 3

    def line(part, **changes):
        torch.save({**parts, part: {**parts[part], **changes}}, path)
        return refused(path)

    position = parts[clip]["visual.positional_embedding"]
    assert "not usable: visual.proj" in line(clip, **{"visual.proj": parts[clip]["visual.proj"] * math.nan})
    assert "of another type: visual.proj (int8)" in line(
        clip, **{"visual.proj": parts[clip]["visual.proj"].to(torch.int8)}
    )
    assert "axes: visual.proj" in line(clip, **{"visual.proj": torch.ones(())})
    assert "without numbers" in line(clip, **{"visual.proj": torch.ones(0, 3)})
    assert "1 + a square number" in line(clip, **{"visual.positional_embedding": position[:-1].clone()})
    assert "more numbers than the file" in line(clip, **{"visual.proj": torch.ones(1, 1).expand(10**6, 10**6)})
    name = "visual.transformer.resblocks.1000000000.ln_1.weight"
    assert "visual layers in" in line(clip, **{name: torch.ones(1)})
    assert "layers and" in line(head, **{"transformer.resblocks.1000000000.ln_1.weight": torch.ones(1)})
    assert "of another shape" in line(head, **{"transformer.resblocks.0.mlp.fc_up.0.weight": torch.ones(3)})
    torch.save({**parts, clip: {**parts[clip], 5: torch.ones(1)}}, path)
    assert "names are no text: 5" in refused(path)


def test_text_features_of_another_width_are_refused():
    """A name of a CLIP whose sizes are not known before it is loaded: found when its text tower is asked for."""
    with pytest.raises(ValueError, match=r"backbone tiny has features of 128 numbers, the model of 24"):
        fitting_towers(load_backbone("tiny"), 24, "here")


def test_a_backbone_that_does_not_fit_a_checkpoint_is_refused(tmp_path):
    path = checkpoint(tmp_path)
    with pytest.raises(ValueError, match="backbone tiny is another CLIP than the model was tuned from: embed_dim 128"):
        mote.load(str(path), backbone="tiny", device="cpu")
    with pytest.raises(ValueError, match="unknown CLIP model 'tinny'"):
        mote.load(str(path), backbone="tinny", device="cpu")
    with pytest.raises(ValueError, match="leave backbone='tiny' out"):
        mote.load("tiny", backbone="tiny", device="cpu")


def test_alpha_needs_the_original_tower():
    plain = mote.load("tiny", device="cpu")
    original = plain.towers()
    other = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 128))
    wrong = replace(plain, towers=lambda: replace(original, visual=other))
    with pytest.raises(ValueError, match="alpha: interpolation needs the visual tower of the original CLIP"):
        wrong.interpolated(0.5)
    assert plain.interpolated(0.5).model is not plain.model


def test_scores_that_are_no_numbers_are_refused(models, tmp_path):
    model = mote.load(str(models["image"]), device="cpu")
    next(model.net.parameters()).data.fill_(math.nan)
    Image.new("L", (16, 16)).save(tmp_path / "a.png")
    with pytest.raises(ValueError, match=r"a\.png: the model gives scores that are no numbers"):
        model.scores(tmp_path / "a.png", model.classes)

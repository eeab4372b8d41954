"""CLIP towers against open_clip itself, class features against a loop and open_clip's own zero-shot classifier."""

import json
import logging
import warnings

import open_clip
import pytest
import torch
from safetensors.torch import load_file, save_file

from mote.files.shipped import data_file, default_templates
from mote.models.clip import TextTower, backbone_config, build_backbone, encode_classes, load_backbone, parse_model_name
from mote.models.tiny import TINY_WEIGHTS

TEXT = {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1}
VIT = {"image_size": 48, "patch_size": 16, "width": 40, "head_width": 20, "layers": 1}
CONFIGS = {
    "mote-test-clip": {"embed_dim": 24, "vision_cfg": VIT, "text_cfg": TEXT},
    "mote-test-quickgelu": {"embed_dim": 24, "quick_gelu": True, "vision_cfg": VIT, "text_cfg": TEXT},
    "mote-test-custom": {
        "embed_dim": 24,
        "custom_text": True,
        "init_logit_bias": -10.0,
        "nonscalar_logit_scale": True,
        "vision_cfg": VIT,
        "text_cfg": TEXT,
    },
    "mote-test-resnet": {
        "embed_dim": 20,
        "vision_cfg": {"image_size": 64, "layers": [1, 1, 1, 1], "width": 8, "head_width": 64},
        "text_cfg": TEXT,
    },
    "mote-test-coca": {
        "embed_dim": 24,
        "custom_text": True,
        "vision_cfg": {**VIT, "attentional_pool": True, "attn_pooler_heads": 2, "output_tokens": True},
        "text_cfg": {**TEXT, "embed_cls": True, "output_tokens": True},
        "multimodal_cfg": {**TEXT, "dim_head": 16, "mlp_ratio": 2},
    },
}
NAMES = ["abseiling", "tai chi", "playing squash or racquetball", "push_up", "{curly}"]
TEMPLATES = ["a video of {}.", "{}", "a person doing {}."]
TEXTS = ["a red square", "a very long text that does not fit into the context of sixteen tokens at all, not at all"]


@pytest.fixture(scope="module", autouse=True)
def registered(tmp_path_factory):
    folder = tmp_path_factory.mktemp("configs")
    for name, config in CONFIGS.items():
        (folder / f"{name}.json").write_text(json.dumps(config))
    open_clip.add_model_config(folder)


def reference(name: str) -> torch.nn.Module:
    """An open_clip model with random weights, temperature included."""
    torch.manual_seed(7)
    model = open_clip.create_model(name).eval()
    torch.nn.init.constant_(model.logit_scale, 3.25)
    return model


def save(model: torch.nn.Module, path, form: str):
    state = model.state_dict()
    if form == "safetensors":
        save_file(state, path)
    elif form == "training":
        torch.save({"epoch": 3, "state_dict": {f"module.{key}": value for key, value in state.items()}}, path)
    elif form == "openai":
        extras = {"input_resolution": 48, "context_length": 16, "vocab_size": 49408}
        torch.save({**state, **{key: torch.tensor(value) for key, value in extras.items()}}, path)
    else:
        torch.save(state, path, _use_new_zipfile_serialization=form != "legacy")
    return path


@torch.no_grad()
def assert_same(towers, model, name):
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(3, 3, towers.image_size, towers.image_size, generator=generator)
    torch.testing.assert_close(towers.visual(images), model.encode_image(images), rtol=0, atol=1e-6)
    tokens = open_clip.get_tokenizer(name)(TEXTS)
    features = towers.encode_text(TEXTS)
    torch.testing.assert_close(features, model.encode_text(tokens, normalize="coca" in name), rtol=0, atol=1e-6)
    assert towers.logit_scale.shape == () and towers.logit_scale.item() == 3.25
    return features


@pytest.mark.parametrize("name", [n for n in CONFIGS if "coca" not in n])
def test_local_checkpoint_gives_what_open_clip_gives(name, tmp_path):
    model = reference(name)
    towers = load_backbone(name, save(model, tmp_path / "weights.safetensors", "safetensors"))
    features = assert_same(towers, model, name)
    assert not torch.allclose(features.norm(dim=-1), torch.ones(2), atol=1e-3)  # not normalised
    assert (towers.embed_dim, towers.text_width) == (CONFIGS[name]["embed_dim"], 32)
    assert towers.image_size == CONFIGS[name]["vision_cfg"]["image_size"]
    assert towers.pretrained == str(tmp_path / "weights.safetensors") and towers.name == name


@pytest.mark.parametrize("form", ["plain", "legacy", "training", "openai"])
def test_every_form_of_checkpoint_loads(form, tmp_path):
    name = "mote-test-quickgelu"
    model = reference(name)
    assert_same(load_backbone(name, str(save(model, tmp_path / "weights.pt", form))), model, name)


def test_weights_of_openai_without_quickgelu_warn(tmp_path):
    path = save(reference("mote-test-clip"), tmp_path / "weights.pt", "openai")
    with pytest.warns(UserWarning, match="expect QuickGELU; did you mean mote-test-clip-quickgelu"):
        load_backbone("mote-test-clip", path)


def test_coca_gives_one_tensor_per_image(tmp_path):
    model = reference("mote-test-coca")
    torch.nn.init.normal_(model.text_decoder.text_projection, std=0.02)  # open_clip leaves it as memory was
    towers = load_backbone("mote-test-coca", save(model, tmp_path / "weights.pt", "plain"))
    images = torch.randn(2, 3, 48, 48)
    with torch.no_grad():
        torch.testing.assert_close(towers.visual(images), model.encode_image(images, normalize=False))
        torch.testing.assert_close(
            towers.encode_text(TEXTS), model.encode_text(open_clip.get_tokenizer("mote-test-coca")(TEXTS))
        )


def test_tag_brings_its_image_statistics_and_a_file_those_all_tags_share(tmp_path, monkeypatch):
    path = save(reference("mote-test-clip"), tmp_path / "weights.pt", "plain")
    half, other = {"mean": (0.5,) * 3, "std": (0.25,) * 3}, {"mean": (0.1,) * 3, "std": (0.2,) * 3}
    table = {"first": {"file": str(path), **half}}
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED, "mote-test-clip", table)
    for pretrained in ("first", path, "random"):
        towers = load_backbone("mote-test-clip", pretrained)
        assert (towers.mean, towers.std) == ((0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
    table["second"] = {"file": str(path), **other}
    assert load_backbone("mote-test-clip", "second").std == (0.2, 0.2, 0.2)
    assert load_backbone("mote-test-clip", path).mean == open_clip.OPENAI_DATASET_MEAN
    assert load_backbone("mote-test-quickgelu", "random").std == open_clip.OPENAI_DATASET_STD


def test_quickgelu_mismatch_of_a_tag_warns(tmp_path, monkeypatch):
    path = save(reference("mote-test-clip"), tmp_path / "weights.pt", "plain")
    tag = {"file": str(path), "quick_gelu": True}
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED, "mote-test-clip", {"openai": tag})
    with pytest.warns(UserWarning, match="QuickGELU mismatch"):
        load_backbone("mote-test-clip", "openai")


def test_tiny_has_its_shipped_weights():
    towers, shipped = load_backbone("tiny"), load_file(TINY_WEIGHTS)
    assert isinstance(towers.encode_text, TextTower)
    loaded = {f"visual.{key}": value for key, value in towers.visual.state_dict().items()}
    loaded |= towers.encode_text.backbone.state_dict()
    assert loaded.keys() == shipped.keys()
    assert all(torch.equal(loaded[key], value) for key, value in shipped.items())
    assert not towers.visual.training and not towers.encode_text.training
    with torch.no_grad():
        assert towers.visual(torch.zeros(2, 3, towers.image_size, towers.image_size)).shape == (2, towers.embed_dim)
        assert towers.encode_text(["a red ball"]).shape == (1, towers.embed_dim)
    again = load_backbone("tiny", TINY_WEIGHTS)
    assert torch.equal(again.logit_scale, towers.logit_scale)


@pytest.mark.parametrize("name", ["tiny", "mote-test-custom"])
def test_random_weights_follow_the_global_seed(name):
    def weights(seed):
        torch.manual_seed(seed)
        return torch.cat([p.flatten() for p in load_backbone(name, "random").visual.parameters()])

    assert torch.equal(weights(1), weights(1))
    assert not torch.equal(weights(1), weights(2))


def test_class_features_equal_the_loop_and_open_clips_classifier():
    model = reference("mote-test-clip")
    tokenizer = open_clip.get_tokenizer("mote-test-clip")
    towers = build_towers_like(model, tokenizer)
    features = encode_classes(towers, NAMES, TEMPLATES, batch_size=4)
    assert features.shape == (5, 24) and features.dtype == torch.float32 and not features.requires_grad
    for k, name in enumerate(NAMES):
        mean = torch.zeros(24, dtype=torch.float64)
        for template in TEMPLATES:
            before, after = template.split("{}")
            with torch.no_grad():
                feature = model.encode_text(tokenizer([before + name + after]))[0].double()
            mean += feature / feature.square().sum().sqrt() / len(TEMPLATES)
        torch.testing.assert_close(features[k].double(), mean / mean.square().sum().sqrt(), rtol=0, atol=1e-6)
    theirs = open_clip.build_zero_shot_classifier(
        model, tokenizer, NAMES, [lambda name, t=template: t.replace("{}", name) for template in TEMPLATES]
    )
    torch.testing.assert_close(features, theirs.T, rtol=0, atol=1e-6)
    for batch_size in (1, 256):
        torch.testing.assert_close(encode_classes(towers, NAMES, TEMPLATES, batch_size), features, rtol=0, atol=1e-6)


def build_towers_like(model, tokenizer):
    """Towers whose text half is `model` itself."""
    towers = load_backbone("tiny", "random")
    return type(towers)(**{**vars(towers), "encode_text": TextTower(model, tokenizer)})


def test_class_features_are_computed_on_the_device_asked_for():
    assert encode_classes(load_backbone("tiny", "random"), ["ball"], ["{}"], device="meta").device.type == "meta"


@pytest.mark.parametrize(
    ("names", "templates", "message"),
    [
        (["a", "b", "a"], ["{}"], "class names must differ; more than once: 'a'"),
        ([], ["{}"], "at least one class name and one template, got 0 and 1"),
        (["a"], [], "got 1 and 0"),
        ("running", ["{}"], "single string"),
        (["a"], "a {}", "single string"),
        (["a"], ["no place"], "'no place': expected exactly one {}"),
        (["a"], ["{}", "{} and {}"], "'{} and {}': expected exactly one {}"),
    ],
)
def test_wrong_vocabularies_are_refused(names, templates, message):
    with pytest.raises(ValueError, match=message):
        encode_classes(load_backbone("tiny", "random"), names, templates)


def test_default_templates_are_the_28():
    templates = default_templates()
    assert len(templates) == 28 and templates[0] == "a photo of {}." and all(t.count("{}") == 1 for t in templates)
    assert len(data_file("classes/kinetics400.txt").read_text().splitlines()) == 400
    with pytest.raises(FileNotFoundError, match="data file classes/none"):
        data_file("classes/none.txt")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("tiny", ("tiny", None)),
        ("tiny:random", ("tiny", "random")),
        ("ViT-B-16-quickgelu:openai", ("ViT-B-16-quickgelu", "openai")),
        ("ViT-B-16:/data/a:b.pt", ("ViT-B-16", "/data/a:b.pt")),
        ("ViT-B-16:", ("ViT-B-16", None)),
        ("hf-hub:org/model", ("hf-hub:org/model", None)),
        ("local-dir:./model", ("local-dir:./model", None)),
    ],
)
def test_parse_model_name(text, expected):
    assert parse_model_name(text) == expected


def test_a_name_is_needed_before_the_colon():
    with pytest.raises(ValueError, match="expected a model name"):
        parse_model_name(":openai")


@pytest.mark.parametrize(
    ("name", "pretrained", "kind", "message"),
    [
        ("ViT-B-16-quikgelu", "openai", ValueError, "unknown CLIP model .* did you mean ViT-B-16-quickgelu"),
        ("tyni", None, ValueError, "did you mean tiny"),
        ("ViT-B-16", None, ValueError, "which weights.* tags .openai, .*laion2b_s34b_b88k.* 'random'"),
        ("ViT-B/16", "opena1", ValueError, "ViT-B-16: unknown pretrained tag 'opena1'.*openai"),
        ("mote-test-clip", None, ValueError, "no tag .there are none."),
        ("ViT-B-16", "missing.pt", FileNotFoundError, "missing.pt: no such checkpoint file for ViT-B-16"),
        ("ViT-B-16", "folder/missing", FileNotFoundError, "folder/missing: no such"),
        ("tiny", "openai", FileNotFoundError, "no such checkpoint file for tiny"),
        ("local-dir:nowhere", None, RuntimeError, "local-dir:nowhere: cannot read the model configuration"),
    ],
)
def test_mistakes_get_one_helpful_line(name, pretrained, kind, message):
    with pytest.raises(kind, match=message) as caught:
        load_backbone(name, pretrained)
    assert "\n" not in str(caught.value)


def test_unknown_precision_is_refused():
    for build in (lambda p: load_backbone("tiny", precision=p), lambda p: build_backbone("tiny", p)):
        with pytest.raises(ValueError, match=r"precision: expected one of fp32, bf16.* got 'fp8'"):
            build("fp8")


def test_low_precision_keeps_class_features_in_float32():
    towers = load_backbone("tiny", "random", precision="bf16")
    assert towers.visual.conv1.weight.dtype == torch.bfloat16 and towers.logit_scale.dtype == torch.float32
    assert encode_classes(towers, ["red", "blue"], ["a {}"]).dtype == torch.float32


class NotATensor:
    pass


@pytest.mark.parametrize("content", ["text", "empty", "other model", "list", "object"])
def test_files_without_the_weights_get_one_line(content, tmp_path):
    path = tmp_path / "weights.pt"
    if content == "text":
        path.write_text("this is not a checkpoint")
    elif content == "empty":
        path.touch()
    else:
        other = reference("mote-test-resnet").state_dict()
        torch.save({"other model": other, "list": [1, 2], "object": NotATensor()}[content], path)
    for name in ("mote-test-clip", "tiny"):
        with pytest.raises(ValueError, match=f"weights.pt: does not hold weights of {name}: ") as caught:
            load_backbone(name, path)
        assert "\n" not in str(caught.value) and len(str(caught.value)) < 450 + len(str(path))


def test_torchscript_archives_are_refused_with_a_way_out(tmp_path):
    path = tmp_path / "ViT-B-16.pt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), path)
    with pytest.raises(ValueError, match=r"TorchScript archive.*state_dict.*'openai'"):
        load_backbone("mote-test-clip", path)


def test_without_network_the_error_says_what_from_where_and_what_to_do(tmp_path, monkeypatch):
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(
        RuntimeError, match=r"could not get the weights 'laion2b_s34b_b79k' from laion/.*path"
    ) as caught:
        load_backbone("ViT-B-32", "laion2b_s34b_b79k")
    assert "\n" not in str(caught.value) and caught.value.__cause__ is not None
    with pytest.raises(RuntimeError, match="hf-hub:org/model: cannot read the model configuration") as caught:
        load_backbone("hf-hub:org/model")
    assert "\n" not in str(caught.value)


def test_local_dir_brings_weights_and_statistics_and_never_random_ones(tmp_path):
    model = reference("mote-test-custom")
    config = {"model_cfg": CONFIGS["mote-test-custom"], "preprocess_cfg": {"mean": [0.5] * 3, "std": [0.2] * 3}}
    (tmp_path / "open_clip_config.json").write_text(json.dumps(config))
    name = f"local-dir:{tmp_path}"
    with pytest.raises(RuntimeError, match="could not get the weights"):
        load_backbone(name)
    save(model, tmp_path / "open_clip_model.safetensors", "safetensors")
    towers = load_backbone(name)
    assert_same(towers, model, name)
    assert (towers.mean, towers.std) == ((0.5, 0.5, 0.5), (0.2, 0.2, 0.2))
    with pytest.raises(ValueError, match="brings its own weights"):
        load_backbone(name, "openai")
    assert load_backbone(name, "random").embed_dim == 24


def test_build_clip_from_a_dict_is_open_clips_model_and_leaves_no_trace(caplog):
    known, config = open_clip.list_models(), backbone_config("mote-test-custom")
    torch.manual_seed(3)
    ours = build_backbone(config)
    torch.manual_seed(3)
    theirs = open_clip.create_model("mote-test-custom")
    assert type(ours) is type(theirs)
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), theirs.parameters(), strict=True))
    assert open_clip.list_models() == known and config == CONFIGS["mote-test-custom"]
    with pytest.raises(ValueError, match="lacks vision_cfg"):
        build_backbone({"embed_dim": 8, "text_cfg": TEXT})
    with caplog.at_level(logging.INFO):
        caplog.clear()
        build_backbone("tiny")
        assert not caplog.records  # "initialized randomly" would frighten whoever loads weights next
        logging.warning("heard")
    assert [record.message for record in caplog.records] == ["heard"]


@pytest.mark.slow
def test_vit_b16_has_the_dimensions_of_the_paper():
    towers = load_backbone("ViT-B-16-quickgelu", "random")
    assert (towers.image_size, towers.embed_dim, towers.text_width) == (224, 512, 512)
    assert sum(p.numel() for p in towers.visual.parameters()) == 86_192_640
    with torch.no_grad():
        assert towers.visual(torch.zeros(1, 3, 224, 224)).shape == (1, 512)

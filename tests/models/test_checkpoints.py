"""Model folders round trip; published checkpoints against the oracle; one clear line for every damaged file."""

import json
import logging
from fractions import Fraction

import numpy as np
import open_clip
import pytest
import torch
from oracles import mote_reference as oracle

from mote.models import checkpoints
from mote.models.checkpoints import build_visual, is_reference_checkpoint, load_model, load_reference, save_model
from mote.models.modulation import modulation_gate
from mote.models.temporal import TemporalHead
from mote.models.video_clip import VideoCLIP

VISION = {"image_size": 16, "patch_size": 8, "layers": 2, "width": 32, "head_width": 16}
ARCHITECTURE = {"embed_dim": 24, "vision_cfg": VISION, "quick_gelu": True}
META = {
    "backbone": None,
    "pretrained": None,
    "architecture": ARCHITECTURE,
    "classes": ["run", "jump"],
    "templates": ["{}"],
}


def make(**options):
    torch.manual_seed(0)
    sizes = {"num_layers": 2, "num_experts": 3, "num_heads": 4, "ln_eps": 1e-6, "ffn_ratio": 2.5, **options}
    mean, std = (0.5, 0.25, 0.125), (0.2, 0.25, 0.3)
    visual, head = build_visual(ARCHITECTURE), TemporalHead(24, **sizes) if sizes["num_layers"] else None
    return VideoCLIP(visual, torch.tensor(1.5), head, embed_dim=24, mean=mean, std=std).eval()


def clips(num=2, frames=3, size=16, seed=0):
    shape = (num, frames, 3, size, size)
    return torch.from_numpy(np.random.default_rng(seed).integers(0, 256, size=shape, dtype=np.uint8))


@pytest.mark.parametrize("options", [{}, {"num_experts": 1}, {"num_layers": 0}, {"max_frames": 5, "ffn_ratio": 4}])
def test_a_model_folder_gives_the_same_model_back(tmp_path, options):
    model, tuned = make(**options), torch.nn.functional.normalize(torch.randn(2, 24), dim=-1)
    save_model(tmp_path / "a", model, META, {"tuned_text": tuned})
    state = torch.random.get_rng_state()
    loaded = load_model(tmp_path / "a")
    assert torch.equal(state, torch.random.get_rng_state())
    frames = clips()
    with torch.no_grad():
        expected = model.head(model.encode_frames(frames))
        assert torch.equal(loaded.model.head(loaded.model.encode_frames(frames)), expected)
    assert torch.equal(loaded.tuned_text, tuned) and loaded.merge_routing is None
    assert loaded.classes == ["run", "jump"] and loaded.meta["templates"] == ["{}"]
    assert torch.equal(loaded.model.logit_scale, model.logit_scale) and not loaded.model.training
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["model.json", "model.safetensors"]


def test_both_files_get_the_permissions_of_any_new_file(tmp_path):
    save_model(tmp_path, make(), META)
    (tmp_path / "new").touch()
    assert len({path.stat().st_mode for path in tmp_path.iterdir()}) == 1


def test_a_loaded_model_can_be_saved_again(tmp_path):
    save_model(tmp_path / "a", make(), META, {"merge_routing": torch.eye(3)[:2]})
    loaded = load_model(tmp_path / "a")
    save_model(tmp_path / "b", loaded.model, loaded.meta, {"merge_routing": loaded.merge_routing})
    for name in ("model.json", "model.safetensors"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_the_visual_tower_of_a_named_clip_is_described_with_its_real_activation_and_size(tmp_path, monkeypatch):
    config = {"embed_dim": 24, "vision_cfg": {**VISION, "image_size": 224}, "text_cfg": {}, "custom_text": True}
    monkeypatch.setattr(open_clip, "get_model_config", lambda name: config if name == "toy" else None)
    model = make()  # QuickGELU and 16 pixels: what a tag may switch on behind the name
    save_model(tmp_path, model, {"backbone": "toy", "pretrained": "some"})
    assert json.loads((tmp_path / "model.json").read_text())["architecture"] == ARCHITECTURE
    assert load_model(tmp_path).meta["backbone"] == "toy"
    with pytest.raises(ValueError, match="backbone='no-such-clip'; expected 'tiny' or an open_clip model"):
        save_model(tmp_path, model, {"backbone": "no-such-clip"})


def test_the_tiny_clip_is_rebuilt_from_its_name(tmp_path):
    from mote.models.tiny import tiny_config

    config = tiny_config()
    visual = build_visual({name: config.get(name, False) for name in ("embed_dim", "vision_cfg", "quick_gelu")})
    width, statistics = config["embed_dim"], {"mean": (0.5,) * 3, "std": (0.5,) * 3}
    head = TemporalHead(width, num_layers=1, num_heads=2, num_experts=2)
    model = VideoCLIP(visual, torch.tensor(0.0), head, embed_dim=width, **statistics).eval()
    save_model(tmp_path, model, {"backbone": "tiny"})
    loaded, frames = load_model(tmp_path).model, clips(size=config["vision_cfg"]["image_size"])
    with torch.no_grad():
        assert torch.equal(loaded.encode_frames(frames), model.encode_frames(frames))


def test_an_interrupted_write_leaves_the_old_model(tmp_path, monkeypatch):
    save_model(tmp_path, make(), META)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def interrupted(state, path, metadata):
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoints, "save_file", interrupted)
    with pytest.raises(KeyboardInterrupt):
        save_model(tmp_path, make(num_experts=1), META)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_values_that_json_cannot_hold_fail_before_anything_is_written(tmp_path):
    with pytest.raises(TypeError):
        save_model(tmp_path, make(), {**META, "classes": {1}})
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ValueError, match="cannot save the tensors other; expected tuned_text, text, merge_routing"):
        save_model(tmp_path, make(), META, {"other": torch.ones(1)})


def edit(folder, **changes):
    path = folder / "model.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize(
    ("damage", "kind", "message"),
    [
        (lambda f: (f / "model.json").unlink(), FileNotFoundError, "model.json: not found; a model folder holds"),
        (lambda f: (f / "model.safetensors").unlink(), FileNotFoundError, "model.safetensors: not found"),
        (lambda f: (f / "model.json").write_text("{"), ValueError, "model.json: damaged"),
        (lambda f: (f / "model.json").write_text("[]"), ValueError, "model.json: damaged"),
        (lambda f: (f / "model.json").write_text("{}"), ValueError, "model.json: the key 'num_layers' is missing"),
        (lambda f: (f / "model.safetensors").write_bytes(b"text"), ValueError, "model.safetensors: damaged"),
        (lambda f: edit(f, num_layers=3), ValueError, "tensors missing: temporal.blocks.2.* and 6 more"),
        (lambda f: edit(f, num_layers=1), ValueError, "tensors unknown: temporal.blocks.1"),
        (lambda f: edit(f, num_experts=2), ValueError, r"of another shape: .*down_bias \(3, 24\) for \(2, 24\)"),
    ],
)
def test_a_damaged_folder_gives_one_line_that_names_the_file(tmp_path, damage, kind, message):
    save_model(tmp_path, make(), META)
    damage(tmp_path)
    with pytest.raises(kind, match=message) as caught:
        load_model(tmp_path)
    assert str(tmp_path) in str(caught.value) and "\n" not in str(caught.value)


def test_building_a_tower_is_quiet_and_leaves_logging_alone(caplog):
    build_visual({**ARCHITECTURE, "embed_dim": 20})
    assert caplog.records == []
    logging.getLogger().warning("heard")
    assert len(caplog.records) == 1


# --- the published format ---

SIZES = [
    {},
    {"width": 48, "patch": 4, "grid": 3, "embed": 20, "layers": 1, "experts": 2, "classes": 3},  # one head each
    {"width": 128, "embed": 128, "layers": 2, "experts": 3, "classes": 400, "visual_layers": 1},  # two heads each
    {"fusion": 0.0, "experts": 1},
]


def saved(folder, checkpoint):
    path = folder / "published.pt"
    torch.save(checkpoint, path)
    return path


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("modulation", [False, True])
def test_published_checkpoints_give_the_logits_of_the_equations(tmp_path, sizes, modulation):
    checkpoint = oracle.random_checkpoint(torch.Generator().manual_seed(1), **sizes)
    loaded = load_reference(saved(tmp_path, checkpoint))
    clip, head = (oracle.arrays(checkpoint[part]) for part in ("model_state_dict", "fusion_model_state_dict"))
    size = sizes.get("patch", 8) * sizes.get("grid", 2)
    frames = clips(size=size)
    # classes near those of fine-tuning, so that the gate is neither open nor shut
    tuned = head["spe_cls_feature"]
    text = tuned + np.random.default_rng(0).normal(scale=0.15 / tuned.shape[1] ** 0.5, size=tuned.shape)
    text = text / np.linalg.norm(text, axis=1, keepdims=True)
    tensor = torch.from_numpy(text).float()
    with torch.no_grad():
        features = loaded.model.encode_frames(frames)
        gate = modulation_gate(features.mean(dim=1), tensor, loaded.tuned_text) if modulation else 1.0
        assert not modulation or ((gate > 0.05).any() and (gate < 0.95).all())
        stacked = loaded.model.classify(loaded.model.head(features, loaded.merge_routing, gate), tensor)
        folded = loaded.model.fold(loaded.merge_routing)
        plain = folded.classify(folded.head(features, gate=gate), tensor)
    expected = np.array([[oracle.vit(clip, frame) for frame in video] for video in frames.numpy()])
    np.testing.assert_allclose(features, expected, atol=1e-5)
    expected = oracle.logits(checkpoint, frames.numpy(), text, modulation)
    np.testing.assert_allclose(stacked, expected, atol=1e-5)
    np.testing.assert_allclose(plain, expected, atol=1e-5)


def test_prefixes_and_optimizer_state_are_ignored_and_half_precision_is_cast(tmp_path):
    checkpoint = oracle.random_checkpoint(torch.Generator().manual_seed(2))
    halved = {
        part: {name: tensor.half() for name, tensor in checkpoint[part].items()}
        for part in ("model_state_dict", "fusion_model_state_dict")
    }
    prefixed = {part: {f"module.{name}": tensor for name, tensor in halved[part].items()} for part in halved}
    plain = load_reference(saved(tmp_path, halved))
    other = load_reference(saved(tmp_path, {"epoch": 1, "optimizer_state_dict": {"state": {}}, **prefixed}))
    for name, tensor in plain.model.state_dict().items():
        assert tensor.dtype == torch.float32
        assert torch.equal(tensor, other.model.state_dict()[name])
    half = halved["fusion_model_state_dict"]["spe_cls_feature"]
    assert torch.equal(other.tuned_text, half.float())


def test_a_published_checkpoint_can_be_saved_as_a_folder(tmp_path):
    loaded = load_reference(saved(tmp_path, oracle.random_checkpoint(torch.Generator().manual_seed(3))))
    tensors = {"tuned_text": loaded.tuned_text, "merge_routing": loaded.merge_routing}
    save_model(tmp_path / "folder", loaded.model, loaded.meta, tensors)
    again, frames = load_model(tmp_path / "folder"), clips()
    with torch.no_grad():
        expected = loaded.model.head(loaded.model.encode_frames(frames), loaded.merge_routing)
        assert torch.equal(again.model.head(again.model.encode_frames(frames), again.merge_routing), expected)
    assert again.meta["ln_eps"] == 1e-12 and again.meta["backbone"] is None


def test_a_checkpoint_without_temporal_head_is_mean_pooling(tmp_path):
    checkpoint = oracle.random_checkpoint(torch.Generator().manual_seed(4))
    tuned = checkpoint["fusion_model_state_dict"]["spe_cls_feature"]
    checkpoint["fusion_model_state_dict"] = {"spe_cls_feature": tuned}
    loaded = load_reference(saved(tmp_path, checkpoint))
    assert loaded.model.temporal is None and loaded.merge_routing is None and len(loaded.tuned_text) == 11


@pytest.mark.parametrize(
    ("width", "patch", "layers", "embed", "pixels", "name"),
    [
        (768, 32, 12, 512, 224, "ViT-B-32-quickgelu"),
        (768, 16, 12, 512, 224, "ViT-B-16-quickgelu"),
        (1024, 14, 24, 768, 224, "ViT-L-14-quickgelu"),
        (1024, 14, 24, 768, 336, "ViT-L-14-336-quickgelu"),
        (768, 16, 12, 512, 240, None),  # OpenAI published no such tower
        (768, 32, 11, 512, 224, None),
        (768, 32, 12, 640, 224, None),
    ],
)
def test_the_four_towers_of_openai_are_known_by_their_sizes_and_described_as_open_clip_does(
    tmp_path, monkeypatch, width, patch, layers, embed, pixels, name
):
    """`meta` of published checkpoints; tensors that say nothing of the sizes are left out, and so is the network."""
    visual = {
        "conv1.weight": torch.zeros(width, 3, patch, patch),
        "positional_embedding": torch.zeros((pixels // patch) ** 2 + 1, width),
        "proj": torch.zeros(width, embed),
        **{f"transformer.resblocks.{n}.ln_1.bias": torch.zeros(1) for n in range(layers)},
        "transformer.resblocks.0.mlp.c_fc.weight": torch.zeros(4 * width, width),
    }
    clip = {"logit_scale": torch.tensor(2.5), **{f"visual.{key}": value for key, value in visual.items()}}
    head = {"spe_cls_feature": torch.ones(3, embed)}
    path = saved(tmp_path, {"model_state_dict": clip, "fusion_model_state_dict": head})
    monkeypatch.setattr(checkpoints, "filled", lambda build, state, weights, place: make(num_layers=0))
    meta = load_reference(path).meta
    assert (meta["backbone"], meta["pretrained"]) == (name, name and "openai")
    assert meta["classes"] is None
    expected = {"image_size": pixels, "patch_size": patch, "layers": layers, "width": width}
    vision = meta["architecture"]["vision_cfg"]
    assert vision == expected | {"head_width": 64, "mlp_ratio": 4.0}
    assert meta["architecture"]["embed_dim"] == embed and meta["architecture"]["quick_gelu"] is True
    if name:  # what open_clip says of the model of this name
        theirs = open_clip.get_model_config(name)
        assert theirs["embed_dim"] == embed and theirs["quick_gelu"] is True
        assert {key: theirs["vision_cfg"][key] for key in expected} == expected


def test_a_vocabulary_in_half_precision_is_one_in_single_precision(tmp_path):
    checkpoint = oracle.random_checkpoint(torch.Generator().manual_seed(7))
    head = checkpoint["fusion_model_state_dict"]
    head["spe_cls_feature"] = head["spe_cls_feature"].half()
    loaded = load_reference(saved(tmp_path, checkpoint))
    assert loaded.tuned_text.dtype == torch.float32
    assert torch.equal(loaded.tuned_text, head["spe_cls_feature"].float())
    save_model(tmp_path / "folder", loaded.model, loaded.meta, {"tuned_text": loaded.tuned_text})
    assert torch.equal(load_model(tmp_path / "folder").tuned_text, loaded.tuned_text)


def broken(checkpoint, part, **changes):
    part = checkpoint[{"clip": "model_state_dict", "head": "fusion_model_state_dict"}[part]]
    for name, value in changes.items():
        part.pop(name, None)
        if value is not None:
            part[name] = value
    return checkpoint


@pytest.mark.parametrize(
    ("part", "changes", "message"),
    [
        ("head", {"transformer.resblocks.1.ln_1.bias": None}, "tensors missing: transformer.resblocks.1.ln_1.bias$"),
        (
            "head",
            {"transformer.resblocks.2.mlp.fc_up.3.bias": None},
            "tensors missing: .*resblocks.2.mlp.fc_up.3.bias$",
        ),
        ("head", {"extra.weight": torch.ones(1)}, "tensors unknown: extra.weight$"),
        ("head", {"spe_cls_feature": None}, "tensors missing: spe_cls_feature"),
        (
            "head",
            {"spe_cls_feature": torch.ones(3, 5)},
            r"spe_cls_feature has shape \(3, 5\); expected \(classes, 32\)",
        ),
        ("head", {"transformer.resblocks.0.mlp.mote_fusion_weight": torch.ones(3)}, "tensors not for 4 experts"),
        ("head", {"transformer.resblocks.0.mlp.fc_dn.1.bias": torch.ones(3)}, "of another shape than .*fc_dn.0.bias"),
        (
            "head",
            {"frame_position_embeddings.weight": torch.ones(77, 5)},
            r"temporal.position \(77, 5\) for \(77, 32\)",
        ),
        ("clip", {"visual.conv1.weight": None}, "tensors missing: visual.conv1.weight"),
        ("clip", {"visual.ln_post.bias": None}, "tensors missing: visual.ln_post.bias"),
        ("clip", {"token_embedding.weight": torch.ones(2)}, "tensors unknown: token_embedding.weight"),
        ("clip", {"logit_scale": 3}, "tensors of no value: logit_scale"),
    ],
)
def test_a_checkpoint_that_does_not_fit_lists_the_names(tmp_path, part, changes, message):
    checkpoint = broken(oracle.random_checkpoint(torch.Generator().manual_seed(5)), part, **changes)
    with pytest.raises(ValueError, match=message) as caught:
        load_reference(saved(tmp_path, checkpoint))
    assert str(caught.value).startswith(str(tmp_path)) and "\n" not in str(caught.value)


def test_widths_that_heads_do_not_divide_are_refused(tmp_path):
    checkpoint = oracle.random_checkpoint(torch.Generator().manual_seed(6), embed=130 + 1)
    with pytest.raises(ValueError, match="the temporal width 131 is not a multiple of its 2 attention heads"):
        load_reference(saved(tmp_path, checkpoint))


def test_files_of_another_kind_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none.pt: not found; expected a checkpoint in the published"):
        load_reference(tmp_path / "none.pt")
    (tmp_path / "text.pt").write_text("not a checkpoint")
    with pytest.raises(ValueError, match=r"text.pt: cannot be read \(UnpicklingError\); expected a PyTorch file"):
        load_reference(tmp_path / "text.pt")
    whole = saved(tmp_path, oracle.random_checkpoint(torch.Generator()))
    whole.write_bytes(whole.read_bytes()[:5000])
    with pytest.raises(ValueError, match=r"published.pt: cannot be read"):
        load_reference(whole)
    with pytest.raises(ValueError, match=r"cannot be read \(UnpicklingError\)"):  # objects could run code
        load_reference(saved(tmp_path, {"model_state_dict": Fraction(1, 2)}))
    with pytest.raises(ValueError, match="expected model_state_dict and fusion_model_state_dict, got state_dict"):
        load_reference(saved(tmp_path, {"state_dict": {}}))
    with pytest.raises(ValueError, match="got Tensor"):
        load_reference(saved(tmp_path, torch.ones(3)))


def test_published_checkpoints_are_told_by_their_suffix():
    assert is_reference_checkpoint("MoTE_B16.pt") and not is_reference_checkpoint("runs/k400/best")

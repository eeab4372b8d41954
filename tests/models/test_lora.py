"""Adapters on towers of every kind open_clip has: each learns, merging is exact, base weights never move."""

import copy

import pytest
import timm
import torch
from small_towers import shrink_timm, small_config
from torch import nn
from torch.func import functional_call

from mote.models.clip import build_backbone

lora = pytest.importorskip("mote.models.lora")
ATTENTION = {  # adapted layers of one block (of two) and of the attention pooling, written down from the architectures
    "ViT-B-16-quickgelu": (1, 0),  # nn.MultiheadAttention as a whole
    "ViT-B-16-SigLIP2": (2, 3),  # qkv, proj; pooling: q, kv, proj
    "EVA02-B-16": (4, 0),  # q, k, v, proj
    "EVA01-g-14": (2, 0),  # fused qkv with a bias of its own
    "PE-Core-B-16": (2, 3),
}
MLP = dict.fromkeys(ATTENTION, (2, 0)) | {
    "EVA02-B-16": (3, 0),  # SwiGLU: two ways up
    "ViT-B-16-SigLIP2": (2, 2),
    "PE-Core-B-16": (2, 2),
}
IMAGES = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    shrink_timm(monkeypatch)


def tower_of(name: str) -> nn.Module:
    torch.manual_seed(0)
    return build_backbone(small_config(name)).visual


def trained(tower: nn.Module, steps: int = 2, **options) -> nn.Module:
    """The tower with adapters after steps of AdamW at a high rate."""
    model = lora.add_adapters(tower, lambda t: t(IMAGES), rank=4, alpha=8.0, **options).train()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.05)
    for _ in range(steps):
        optimizer.zero_grad()
        model(IMAGES).square().sum().backward()
        optimizer.step()
    return model.eval()


def base_weights(model: nn.Module) -> dict[str, torch.Tensor]:
    strip = lambda name: name.removeprefix("base_model.model.").replace(".base_layer", "")  # noqa: E731
    return {strip(name): t for name, t in model.state_dict().items() if ".lora_" not in name}


@pytest.mark.parametrize("preset", ["attention", "mlp", "all"])
@pytest.mark.parametrize("name", ATTENTION)
def test_every_adapter_a_preset_names_changes_in_one_step_and_nothing_else_does(name, preset):
    tower = tower_of(name)
    before = {key: t.clone() for key, t in tower.state_dict().items()}
    expected = [
        counts for key, counts in (("attention", ATTENTION[name]), ("mlp", MLP[name])) if preset in (key, "all")
    ]
    assert len(lora.adapted_layers(tower, preset)) == sum(2 * block + pool for block, pool in expected)
    output = tower(IMAGES)
    model = trained(tower, steps=1, preset=preset)
    second = {key: t for key, t in model.state_dict().items() if ".lora_B." in key}
    assert len(second) >= len(lora.adapted_layers(tower_of(name), preset))  # nn.MultiheadAttention has two of them
    assert all(t.any() for t in second.values()), [key for key, t in second.items() if not t.any()]
    assert {key for key, p in model.named_parameters() if p.requires_grad} == {
        key for key in model.state_dict() if ".lora_" in key
    }
    now = base_weights(model)
    assert set(now) == set(before) and all(torch.equal(now[key], before[key]) for key in before)
    assert not torch.allclose(model(IMAGES), output, rtol=1e-6, atol=0)


@pytest.mark.parametrize("name", ATTENTION)
def test_merged_equals_unmerged_and_is_the_base_weight_plus_the_product_of_the_factors(name):
    tower = tower_of(name)
    before = {key: t.clone() for key, t in tower.state_dict().items()}
    model = trained(tower, steps=3)
    plain = lora.merged(model)
    torch.testing.assert_close(plain(IMAGES), model(IMAGES), rtol=1e-5, atol=1e-5)
    assert all(torch.equal(t, before[key]) for key, t in base_weights(model).items())
    state, factors = model.state_dict(), 0
    for key, first in state.items():
        if ".lora_A." not in key:
            continue
        layer = key.partition(".lora_A")[0].removeprefix("base_model.model.").replace(".base_layer", "")
        weight = f"{layer}.in_proj_weight" if f"{layer}.in_proj_weight" in before else f"{layer}.weight"
        expected = before[weight].double() + 8 / 4 * state[key.replace("_A", "_B")].double() @ first.double()
        torch.testing.assert_close(plain.state_dict()[weight].double(), expected, rtol=0, atol=1e-6)
        before[weight] = plain.state_dict()[weight]
        factors += 1
    assert factors == sum(".lora_B." in key for key in state)
    assert all(torch.equal(t, before[key]) for key, t in plain.state_dict().items())  # and nothing else moved


def test_gradients_are_those_of_the_merged_weights():
    """Against the chain rule on a plain tower whose weight is W + s B A."""
    tower = tower_of("ViT-B-16-quickgelu")
    plain, layer = copy.deepcopy(tower), "transformer.resblocks.1.attn"
    model = trained(tower, preset="attention", steps=2)
    model.zero_grad()
    model(IMAGES).square().sum().backward()
    weights = dict(lora.merged(model).state_dict())
    for part, key in (("in_proj_weight", layer), ("out_proj.weight", f"{layer}.base_layer.out_proj")):
        first, second = (model.get_parameter(f"base_model.model.{key}.lora_{f}.default.weight") for f in "AB")
        weight = weights[f"{layer}.{part}"].clone().requires_grad_()
        functional_call(plain, weights | {f"{layer}.{part}": weight}, (IMAGES,)).square().sum().backward()
        scale = first.grad.abs().max().item()
        torch.testing.assert_close(first.grad, 2 * second.detach().T @ weight.grad, rtol=1e-4, atol=1e-5 * scale)
        torch.testing.assert_close(second.grad, 2 * weight.grad @ first.detach().T, rtol=1e-4, atol=1e-5 * scale)


@pytest.mark.parametrize("name", ATTENTION)
def test_gradient_checkpointing_gives_the_same_gradients(name):
    model = trained(tower_of(name), steps=1).train()
    grads = []
    for enabled in (False, True):
        model.zero_grad()
        model.set_grad_checkpointing(enabled)
        model(IMAGES).square().sum().backward()
        grads.append({key: p.grad.clone() for key, p in model.named_parameters() if p.requires_grad})
    assert all(t.any() for t in grads[0].values())
    for key, grad in grads[0].items():
        torch.testing.assert_close(grads[1][key], grad, rtol=1e-4, atol=1e-6 * grad.abs().max().item())


def test_parameters_keep_their_identity_over_forward_passes():
    """Optimizers, DistributedDataParallel and `fold` hold parameters by identity; peft's own layer replaces them."""
    model = trained(tower_of("ViT-B-16-quickgelu"))
    before = {key: id(p) for key, p in model.named_parameters()}
    model(IMAGES)
    model.state_dict()
    assert {key: id(p) for key, p in model.named_parameters()} == before


def test_an_adapter_on_a_layer_that_is_never_called_is_refused(monkeypatch):
    dead = ["transformer.resblocks.0.attn.out_proj", "transformer.resblocks.0.mlp.c_fc"]
    monkeypatch.setattr(lora, "adapted_layers", lambda *_: dead)  # as target_modules="all-linear" would choose
    with pytest.raises(ValueError, match=r"without effect .*: transformer\.resblocks\.0\.attn\.out_proj$"):
        lora.add_adapters(tower_of("ViT-B-16-quickgelu"), lambda t: t(IMAGES))


def test_adapters_travel_in_pefts_format(tmp_path):
    model = trained(tower_of("ViT-B-16-quickgelu"))
    lora.save_adapters(model, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"adapter_config.json", "adapter_model.safetensors"}
    again = lora.load_adapters(tower_of("ViT-B-16-quickgelu"), tmp_path).eval()
    assert torch.equal(again(IMAGES), model(IMAGES))
    from peft import PeftModel  # peft alone reads the files too; only attention needs our layer to be exact

    lora.save_adapters(trained(tower_of("ViT-B-16-SigLIP2")), tmp_path)
    plain = PeftModel.from_pretrained(tower_of("ViT-B-16-SigLIP2"), str(tmp_path)).eval()
    ours = lora.load_adapters(tower_of("ViT-B-16-SigLIP2"), tmp_path).eval()
    assert torch.equal(plain(IMAGES), ours(IMAGES))
    with pytest.raises(ValueError, match=r"do not fit this tower|not found in the base model"):
        lora.load_adapters(tower_of("ViT-B-16-quickgelu"), tmp_path)


def test_mistakes():
    with pytest.raises(ValueError, match=r"unknown preset 'linear'.*attention, mlp, all"):
        lora.adapted_layers(tower_of("ViT-B-16-quickgelu"), "linear")
    with pytest.raises(ValueError, match="Linear has no layers"):
        lora.adapted_layers(nn.Linear(2, 2), "all")


def test_what_peft_does_to_multihead_attention_is_why_there_is_a_layer_of_our_own():
    """When this fails, peft was mended: `mote.models.lora.MultiheadAttention` can go."""
    from peft import LoraConfig, get_peft_model

    tower = tower_of("ViT-B-16-quickgelu")
    before = {key: t.clone() for key, t in tower.state_dict().items()}
    model = get_peft_model(tower, LoraConfig(r=4, target_modules=["attn"]))
    for key, p in model.named_parameters():
        if ".lora_B." in key:
            nn.init.normal_(p, std=0.1)
    model(IMAGES)
    drifted = [key for key, t in base_weights(model).items() if not torch.equal(t, before[key])]
    assert drifted and all("attn" in key for key in drifted)
    layer = "transformer.resblocks.0.attn"
    delta = model.get_submodule(f"base_model.model.{layer}.base_layer.out_proj").get_delta_weight("default")
    merged = model.merge_and_unload().get_parameter(f"{layer}.out_proj.weight")
    torch.testing.assert_close(merged - before[f"{layer}.out_proj.weight"], 2 * delta, rtol=1e-4, atol=1e-6)


def test_towers_of_the_tests_are_small():
    assert timm.create_model is not None
    assert all(sum(p.numel() for p in tower_of(name).parameters()) < 300_000 for name in ATTENTION)

"""The narrower last block against open_clip's own, which computes every token: features, gradients, what wraps it."""

import copy
import io

import open_clip
import pytest
import torch

from mote.models.clip import load_backbone
from mote.models.feature_maps import patch_tokens
from mote.models.lora import add_adapters, merged
from mote.models.narrow import narrow
from mote.models.open_clip_blocks import ClassTokenBlock, all_tokens, only_class_token
from mote.models.sites import sites

VISION = {"image_size": 32, "patch_size": 8, "width": 48, "layers": 3, "head_width": 12, "mlp_ratio": 2.0}


def make_tower(**more):
    torch.manual_seed(0)
    cfg = open_clip.CLIPVisionCfg(**VISION, **more)
    tower = open_clip.model._build_vision_tower(20, cfg, quick_gelu=True)
    for p in tower.parameters():  # what starts as zero or one too
        torch.nn.init.normal_(p, std=0.2)
    return tower.eval()


def images(count=5):
    return torch.randn(count, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def close(found, expected):
    assert (found - expected).abs().max() <= 1e-5 * expected.abs().max()


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("more", [{}, {"ls_init_value": 0.3}, {"final_ln_after_pool": True}])
def test_features_and_gradients_are_those_of_the_whole_block(more, training):
    whole = make_tower(**more).train(training)
    short = copy.deepcopy(whole)
    only_class_token(short)
    assert type(short.transformer.resblocks[-1]) is ClassTokenBlock and repr(short) != repr(whole)
    assert list(short.state_dict()) == list(whole.state_dict())
    pixels = images()
    expected, found = whole(pixels), short(pixels)
    close(found, expected)
    for features in (expected, found):
        (features * torch.linspace(-1, 1, 20)).square().sum().backward()
    for (name, p), q in zip(whole.named_parameters(), short.parameters(), strict=True):
        scale = max(p.grad.abs().max().item(), 1e-3)  # the bias of the keys has a gradient of rounding errors only
        assert (p.grad - q.grad).abs().max() <= 1e-4 * scale, name


def test_checkpointing_copies_and_files():
    tower = make_tower()
    expected = tower(images())
    only_class_token(tower)
    twin = copy.deepcopy(tower)
    twin.set_grad_checkpointing()
    close(twin.train()(images()), expected)
    file = io.BytesIO()
    torch.save(tower, file)
    file.seek(0)
    again = torch.load(file, weights_only=False)
    assert type(again.transformer.resblocks[-1]) is ClassTokenBlock and again(images()).equal(tower(images()))


def test_adapters_are_used_and_merge():
    whole = make_tower()
    expected = whole(images())
    only_class_token(whole)
    tower = add_adapters(whole, lambda t: t(images(1)))  # refuses adapters without a gradient
    close(tower(images()), expected)
    for name, p in tower.named_parameters():
        if ".lora_B." in name:
            torch.nn.init.normal_(p, std=0.2)
    plain = merged(tower)
    close(plain(images()), tower(images()))
    assert (plain(images()) - expected).abs().max() > 0.01
    all_tokens(plain)
    close(plain(images()), tower(images()))
    assert repr(plain) == repr(make_tower())


def test_lost_heads():
    whole = make_tower()
    block = whole.transformer.resblocks[2]
    with torch.no_grad():  # nothing reads the values of head 1
        block.attn.out_proj.weight[:, 12:24] = 0
    expected = whole(images())
    only_class_token(whole)
    name = "transformer.resblocks.2.attn"
    assert name in [site.name for site in sites(whole)]
    narrow(whole, {name: torch.tensor([0, 2, 3])})
    close(whole(images()), expected)


def test_readers_of_patch_tokens_get_all_of_them():
    tower = load_backbone("tiny").visual.eval()
    pixels = torch.randn(2, 3, *tower.image_size)
    expected = patch_tokens(tower, pixels)
    only_class_token(tower)
    for found, right in zip(patch_tokens(tower, pixels), expected, strict=True):
        close(found, right)
    close(tower(pixels), expected[0])
    again = copy.deepcopy(tower).train()  # the block is run once more in the backward pass, of all tokens too
    again.set_grad_checkpointing()
    patch_tokens(again, pixels)[1].sum().backward()


@pytest.mark.parametrize(
    "more", [{"pool_type": "avg"}, {"attentional_pool": True, "attn_pooler_heads": 4}, {"output_tokens": True}]
)
def test_towers_that_read_more_stay_as_they_are(more):
    tower = make_tower(**more)
    only_class_token(tower)
    only_class_token(torch.nn.Linear(2, 2))
    assert not any(isinstance(module, ClassTokenBlock) for module in tower.modules())

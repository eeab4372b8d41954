"""VideoCLIP: pixels to features, the residual head, logits, folding, and what must not happen in a forward pass."""

import copy
import math

import numpy as np
import pytest
import torch
from torch import nn

from mote.models.checkpoints import build_visual
from mote.models.routing import one_expert, random_merge, uniform_merge
from mote.models.temporal import TemporalHead
from mote.models.video_clip import VideoCLIP

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)


class Patches(nn.Module):
    """The smallest visual tower: one convolution over the whole image."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 8)
        self.shapes = []

    def forward(self, images):
        self.shapes.append((tuple(images.shape), images.dtype))
        return self.conv1(images).flatten(1)


def make(**options):
    torch.manual_seed(0)
    sizes = {"num_layers": 2, "num_experts": 3, "num_heads": 4, **options}
    visual, head = Patches(), TemporalHead(16, **sizes) if sizes["num_layers"] else None
    return VideoCLIP(visual, torch.tensor(2.0), head, embed_dim=16, mean=MEAN, std=STD)


def clip(*shape):
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, size=(*shape, 3, 8, 8), dtype=np.uint8))


def test_frames_are_normalised_and_encoded_in_one_call():
    model, frames = make(), clip(2, 3)
    features = model.encode_frames(frames)
    assert model.visual.shapes == [((6, 3, 8, 8), torch.float32)]
    for b in range(2):
        for t in range(3):
            pixels = [(frames[b, t, c].double() / 255 - MEAN[c]) / STD[c] for c in range(3)]
            expected = model.visual.conv1(torch.stack(pixels).float()[None]).flatten()
            torch.testing.assert_close(features[b, t], expected, atol=1e-5, rtol=0)


def test_a_visual_tower_in_half_precision_gets_pixels_in_half_precision():
    model = make()
    model.visual.to(torch.bfloat16)
    features = model.encode_frames(clip(1, 2))
    assert model.visual.shapes[-1][1] == torch.bfloat16
    assert model.head(features).dtype == torch.float32


def test_head_adds_the_gated_temporal_branch():
    model, features, routing = make(), torch.randn(2, 4, 16), random_merge(2, 3, torch.Generator())
    temporal = model.temporal(features, routing)
    torch.testing.assert_close(model.head(features, routing), features + temporal)
    torch.testing.assert_close(model.head(features, routing, 0.25), features + 0.25 * temporal)
    gated = model.head(features, routing, torch.tensor([0.0, 0.5]))
    torch.testing.assert_close(gated[0], features[0])
    torch.testing.assert_close(gated[1], features[1] + 0.5 * temporal[1])


def test_several_routings_are_several_passes():
    model, features, gate = make(), torch.randn(2, 4, 16), torch.tensor([0.2, 0.7])
    routings = torch.stack([one_expert(2, 3, torch.Generator()), uniform_merge(2, 3)])
    each = torch.stack([model.head(features, routing, gate) for routing in routings])
    torch.testing.assert_close(model.head(features, routings, gate), each, atol=1e-6, rtol=0)


def test_without_routing_experts_are_merged_uniformly():
    model, features = make(), torch.randn(2, 4, 16)
    assert torch.equal(model.head(features), model.head(features, uniform_merge(2, 3)))


def test_no_layers_is_mean_pooling():
    model, features = make(num_layers=0), torch.randn(2, 4, 16)
    assert model.temporal is None and model.num_layers == 0
    assert model.head(features, gate=torch.ones(2)) is features
    assert set(model.state_dict()) == {"logit_scale", "visual.conv1.weight", "visual.conv1.bias"}
    assert model.fold().head(features) is features


def test_logits_are_scaled_cosines_of_the_mean():
    model, video, text = make(), torch.randn(3, 4, 16), nn.functional.normalize(torch.randn(5, 16), dim=-1)
    logits = model.classify(video, text)
    for b in range(3):
        mean = [sum(float(video[b, t, d]) for t in range(4)) / 4 for d in range(16)]
        norm = math.sqrt(sum(x * x for x in mean))
        for k in range(5):
            cosine = sum(x * float(y) for x, y in zip(mean, text[k], strict=True)) / norm
            assert logits[b, k].item() == pytest.approx(math.exp(2.0) * cosine, abs=1e-4)


def test_fold_is_one_plain_network_with_the_same_outputs():
    model, features, routing = make(), torch.randn(2, 4, 16), random_merge(2, 3, torch.Generator().manual_seed(1))
    before = {name: t.clone() for name, t in model.state_dict().items()}
    state = torch.random.get_rng_state()
    for choice in (None, routing):
        folded = model.fold(choice)
        assert (folded.num_experts, model.num_experts) == (1, 3)
        torch.testing.assert_close(folded.head(features), model.head(features, choice), atol=1e-6, rtol=0)
        assert folded.visual.conv1.weight is model.visual.conv1.weight
    assert torch.equal(state, torch.random.get_rng_state())
    folded.eval()
    assert model.training and model.visual.training
    assert all(torch.equal(t, before[name]) for name, t in model.state_dict().items())


def test_folding_a_folded_model_changes_nothing():
    model, features = make().fold(), torch.randn(2, 4, 16)
    assert torch.equal(model.fold().head(features), model.head(features))


def test_a_trained_model_can_be_copied_and_holds_no_activations():
    model, frames = make(), clip(2, 3)
    names = {name: set(vars(module)) for name, module in model.named_modules()}
    features = model.encode_frames(frames)
    video = model.head(features, one_expert(2, 3, torch.Generator()))
    model.classify(video, torch.eye(16)).sum().backward()
    assert names == {name: set(vars(module)) for name, module in model.named_modules()}
    twin = copy.deepcopy(model)
    twin.logit_scale.data.zero_()
    assert model.logit_scale.item() == 2.0
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_evaluation_draws_no_random_numbers():
    model = make().eval()
    state = torch.random.get_rng_state()
    model.classify(model.fold().head(model.encode_frames(clip(1, 2))), torch.eye(16))
    assert torch.equal(state, torch.random.get_rng_state())


def test_logits_stay_in_full_precision_under_autocast():
    model, frames, text = make(), clip(2, 3), torch.eye(16)
    expected = model.classify(model.head(model.encode_frames(frames)), text)
    with torch.autocast("cpu", torch.bfloat16):
        features = model.encode_frames(frames)
        video = model.head(features)
        logits = model.classify(video, text)
        model.fold().head(features)
    assert features.dtype == torch.bfloat16 and logits.dtype == torch.float32
    torch.testing.assert_close(logits, expected, atol=0.1, rtol=0)
    assert torch.equal(logits, model.classify(video, text))


def test_gradient_checkpointing_is_on_in_training_only_and_changes_no_gradient():
    config = {"image_size": 8, "patch_size": 4, "layers": 2, "width": 16, "head_width": 8}
    visual = build_visual({"embed_dim": 16, "vision_cfg": config, "quick_gelu": True})
    head = TemporalHead(16, num_layers=1, num_heads=2, num_experts=2)
    model = VideoCLIP(visual, torch.tensor(0.0), head, embed_dim=16, mean=MEAN, std=STD)

    def gradients():
        loss = model.classify(model.head(model.encode_frames(clip(2, 3))), torch.eye(16)).square().sum()
        return torch.autograd.grad(loss, [p for p in model.parameters() if p.requires_grad])

    expected = gradients()
    model.set_gradient_checkpointing(True)
    assert visual.transformer.grad_checkpointing and model.temporal.gradient_checkpointing
    for a, b in zip(gradients(), expected, strict=True):
        torch.testing.assert_close(a, b)
    assert not model.eval().visual.transformer.grad_checkpointing
    assert model.train().visual.transformer.grad_checkpointing
    model.set_gradient_checkpointing(False)
    assert not visual.transformer.grad_checkpointing and not model.temporal.gradient_checkpointing


def test_a_tower_without_gradient_checkpointing_says_so():
    with pytest.raises(ValueError, match="the visual tower Patches has no gradient checkpointing"):
        make().set_gradient_checkpointing(True)


def test_more_frames_than_positions_are_refused():
    with pytest.raises(ValueError, match="a clip has 78 frames, the temporal head takes at most 77"):
        make().head(torch.randn(1, 78, 16))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_features_without_a_head_are_averaged_and_compared_in_single_precision(dtype):
    """Features whose mean half precision cannot hold: 1 + 1/512 over frames, and a sum beyond the range of fp16."""
    model = make(num_layers=0)
    video = torch.randn(3, 7, 16, generator=torch.Generator().manual_seed(1)).to(dtype)
    video[0, :, :8] += 300
    if dtype == torch.float16:
        video[1] *= 1e4  # seven of them do not sum up in fp16
    assert video.isfinite().all()
    text = nn.functional.normalize(torch.randn(5, 16, generator=torch.Generator().manual_seed(2)), dim=-1)
    found = model.classify(model.head(video), text)
    exact = nn.functional.normalize(video.double().mean(1), dim=-1) @ text.double().T * math.exp(2.0)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), exact, atol=2e-5, rtol=0)
    halved = model.classify(video, text.to(dtype))  # a vocabulary in half precision is taken as it is
    exact = nn.functional.normalize(video.double().mean(1), dim=-1) @ text.to(dtype).double().T * math.exp(2.0)
    torch.testing.assert_close(halved.double(), exact, atol=2e-5, rtol=0)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(model.classify(model.head(video), text), found)


def test_double_features_stay_double():
    model = make(num_layers=0).double()
    assert model.classify(torch.randn(2, 3, 16).double(), torch.eye(16)).dtype == torch.float64


def test_checkpointing_that_is_switched_on_in_evaluation_begins_with_training():
    model = make()
    calls = []
    model.visual.set_grad_checkpointing = calls.append
    model.eval().set_gradient_checkpointing(True)
    assert calls == [False] and model.temporal.gradient_checkpointing
    model.train()
    model.eval()
    assert calls == [False, True, False]
    model.set_gradient_checkpointing(False)
    model.train()
    assert calls == [False, True, False, False] and not model.temporal.gradient_checkpointing


def test_the_routing_of_a_model_has_a_row_for_each_layer_and_two_where_both_halves_are_routed():
    asked = []

    def rows(count, experts):
        asked.append((count, experts))
        return torch.arange(count * experts).view(count, experts).float()

    assert make().routing(rows).tolist() == [[0, 1, 2], [3, 4, 5]]
    assert make(expert_part="separate").routing(rows).tolist() == [[0, 1, 2, 3, 4, 5], [6, 7, 8, 9, 10, 11]]
    assert make(expert_part="up").routing(rows).shape == (2, 3)
    assert asked == [(2, 3), (4, 3), (2, 3)]
    assert (make().expert_part, make(expert_part="down").expert_part, make(num_layers=0).expert_part) == (
        "ffn", "down", "ffn"
    )  # fmt: skip
    assert make(num_layers=0).num_experts == 1 and make(expert_part="separate").fold().expert_part == "ffn"


def test_what_a_model_is_made_of_is_its_own():
    scale = torch.tensor(2.0)
    model = VideoCLIP(Patches(), scale, None, embed_dim=16, mean=MEAN, std=STD)
    model.logit_scale.data.zero_()
    assert scale.item() == 2.0 and model.logit_scale.requires_grad
    assert model.mean.flatten().tolist() == pytest.approx(MEAN) and model.std.flatten().tolist() == pytest.approx(STD)
    frames = clip(1, 2).float()
    before = frames.clone()
    model.encode_frames(frames)
    assert torch.equal(frames, before)  # floats, as mixing gives them, are not normalised in place


def test_pixels_are_prepared_as_set():
    model, frames = make(num_layers=0), clip(2, 3)
    model.set_pixels(mean=(0.1, 0.2, 0.3), std=(0.5, 0.25, 0.125))
    mean, std = (torch.tensor(values)[:, None, None] for values in ((0.1, 0.2, 0.3), (0.5, 0.25, 0.125)))
    expected = model.visual((frames.flatten(0, 1) / 255 - mean) / std).unflatten(0, frames.shape[:2])
    torch.testing.assert_close(model.encode_frames(frames), expected)

"""The two forms of the feature anchor against loops."""

import pytest
import torch

from mote.regularizers.weight_merging import anchor_loss


def draw():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(3, 4, 5, generator=generator), torch.randn(3, 4, 5, generator=generator)


def test_the_released_form_is_the_mean_square_of_the_temporal_branch():
    features, temporal = draw()
    expected = sum(x**2 for x in temporal.flatten().tolist()) / temporal.numel()
    assert anchor_loss(features, features + temporal).item() == pytest.approx(expected, rel=1e-5)


def test_the_form_of_the_paper_pools_frames_and_sums_channels():
    features, video = draw()
    total = 0.0
    for clip in range(3):
        for channel in range(5):
            pooled = sum(video[clip, t, channel] - features[clip, t, channel] for t in range(4)) / 4
            total += float(pooled) ** 2
    assert anchor_loss(features, video, form="paper").item() == pytest.approx(total / 3, rel=1e-5)


def test_both_forms_vanish_only_where_they_should():
    features, video = draw()
    centred = features + (video - video.mean(dim=1, keepdim=True))
    assert anchor_loss(features, features).item() == 0
    assert anchor_loss(features, centred, form="paper").item() == pytest.approx(0, abs=1e-10)
    assert anchor_loss(features, centred).item() > 0.1


def test_gradient_reaches_both_arguments():
    features, video = (x.requires_grad_() for x in draw())
    anchor_loss(features, video).backward()
    assert features.grad is not None and torch.equal(features.grad, -video.grad)
    assert (features.grad != 0).all()


def test_an_unknown_form_is_refused():
    with pytest.raises(ValueError, match="unknown form 'eq9' of the anchor; choose 'released' or 'paper'"):
        anchor_loss(*draw(), form="eq9")

"""MEK: the published constants, loops from the formulas, and what must be zero."""

import pytest
import torch
import torch.nn.functional as F
from oracles import long_tail_reference as loops

from mote.regularizers import extra_knowledge, long_tail
from mote.regularizers.extra_knowledge import (
    class_activation_maps,
    class_weights,
    smooth_label_matrix,
    soft_targets,
)


def attention_consistency(*maps_and_settings):
    return extra_knowledge.attention_consistency(*maps_and_settings).mean()


def label_smoothing(*arguments, **settings):
    return long_tail.label_smoothing(*arguments, **settings).mean()


RAF_DB = torch.tensor([1290, 281, 717, 4772, 1982, 705, 2524])  # Su Fe Di Ha Sa An Ne, training part
PUBLISHED = [0.95124031, 4.36690391, 1.71143654, 0.25714585, 0.6191221, 1.74056738, 0.48617274]


def draw(*shape: int, seed: int = 0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_weights_are_the_published_constants_up_to_scale():
    published = torch.tensor(PUBLISHED, dtype=torch.float64)
    torch.testing.assert_close(class_weights(RAF_DB), published / published.mean(), rtol=1e-7, atol=0)
    torch.testing.assert_close(12271 / (10 * RAF_DB.double()), published, rtol=1e-7, atol=0)
    assert class_weights(RAF_DB).mean().item() == pytest.approx(1)


def test_smooth_labels_are_those_of_the_loop_and_sum_to_one():
    weight = class_weights(RAF_DB)
    matrix = smooth_label_matrix(weight, 0.3)
    for y in range(7):
        assert matrix[y].tolist() == pytest.approx(loops.smooth_label(y, PUBLISHED, 0.3), rel=1e-6)
    torch.testing.assert_close(matrix.sum(dim=1), torch.ones(7, dtype=torch.float64))
    # Happy -> Su Fe Di . Sa An Ne
    assert matrix[3].tolist() == pytest.approx([0.029, 0.133, 0.052, 0.7, 0.019, 0.053, 0.015], abs=6e-4)
    torch.testing.assert_close(smooth_label_matrix(3.7 * weight, 0.3), matrix)  # the scale of w has no say


def test_epsilon_zero_is_cross_entropy_and_equal_counts_are_uniform_smoothing():
    logits, label = draw(9, 7), torch.arange(9) % 7
    hard = soft_targets(label, smooth_label_matrix(class_weights(RAF_DB), 0.0))
    torch.testing.assert_close(F.cross_entropy(logits, hard), F.cross_entropy(logits, label))
    uniform = soft_targets(label, smooth_label_matrix(class_weights(torch.full((7,), 40)), 0.3))
    torch.testing.assert_close(F.cross_entropy(logits, uniform), label_smoothing(logits, label, RAF_DB, epsilon=0.3))


def test_epsilon_one_leaves_nothing_on_the_target():
    assert torch.diag(smooth_label_matrix(class_weights(RAF_DB), 1.0)).tolist() == [0] * 7


def test_mixed_targets_are_smoothed_class_by_class():
    matrix = smooth_label_matrix(class_weights(RAF_DB), 0.1)
    label = torch.tensor([3, 1])
    one_hot = F.one_hot(label, 7).double()
    torch.testing.assert_close(soft_targets(one_hot, matrix), soft_targets(label, matrix))
    mixed = soft_targets(0.3 * one_hot + 0.7 * one_hot.flip(0), matrix)
    torch.testing.assert_close(mixed, 0.3 * matrix[label] + 0.7 * matrix[label.flip(0)])
    torch.testing.assert_close(mixed.sum(dim=1), torch.ones(2, dtype=torch.float64))


def test_what_no_smooth_label_can_be_made_of_is_refused():
    with pytest.raises(ValueError, match=r"expected epsilon in \[0, 1\], got 1.5"):
        smooth_label_matrix(class_weights(RAF_DB), 1.5)
    with pytest.raises(ValueError, match="expected positive weights of at least 2 classes"):
        smooth_label_matrix(torch.tensor([1.0, 0.0]), 0.1)


def test_maps_and_consistency_are_those_of_the_loops():
    features, mirrored, head = draw(2, 5, 3, 4), draw(2, 5, 3, 4, seed=1), draw(7, 5, seed=2)
    maps = [loops.cam(one.tolist(), head.tolist()) for one in features]
    maps_flip = [loops.cam(one.tolist(), head.tolist()) for one in mirrored]
    cam, cam_flip = class_activation_maps(features, head), class_activation_maps(mirrored, head)
    torch.testing.assert_close(cam, torch.tensor(maps, dtype=torch.float64))
    expected = loops.consistency(maps, maps_flip, PUBLISHED, lam=0.1)  # as released
    strength = 0.1 * sum(PUBLISHED)
    assert strength == pytest.approx(1.0133, abs=1e-4)
    mined = attention_consistency(cam, cam_flip, class_weights(RAF_DB), strength)
    assert mined.item() == pytest.approx(expected, rel=1e-7)
    uniform = attention_consistency(cam, cam_flip, torch.ones(7, dtype=torch.float64), 5.0)
    torch.testing.assert_close(uniform, 5 * F.mse_loss(cam, cam_flip.flip(-1)))  # EAC with its lambda 5


def test_the_mean_of_a_map_is_the_logit_without_bias():
    features, head = draw(3, 5, 4, 6), draw(7, 5, seed=2)
    torch.testing.assert_close(
        class_activation_maps(features, head).mean(dim=(-2, -1)), features.mean(dim=(-2, -1)) @ head.T
    )


def test_consistency_is_at_least_that_of_the_logits():
    """Jensen: mean of squares >= square of the mean, class by class."""
    cam, cam_flip, weight = draw(4, 7, 5, 5), draw(4, 7, 5, 5, seed=1), class_weights(RAF_DB)
    gap = (cam.mean(dim=(-2, -1)) - cam_flip.mean(dim=(-2, -1))).square()
    assert attention_consistency(cam, cam_flip, weight, 1.0) >= (gap @ (weight / weight.sum())).mean()


@pytest.mark.parametrize("shape", [(2, 7, 5, 5), (2, 7, 1, 1), (2, 3, 4, 1), (2, 2, 1, 6), (2, 3, 7, 4, 5)])
def test_an_equivariant_map_costs_nothing_and_any_size_is_finite(shape):
    cam, other = draw(*shape), draw(*shape, seed=1)
    weight = class_weights(RAF_DB[: shape[-3]])
    assert attention_consistency(cam, cam.flip(-1), weight, 5.0).item() == 0
    assert attention_consistency(cam, other, weight, 5.0).isfinite()
    assert attention_consistency(cam, other, weight, 5.0) > 0


def test_an_equivariant_encoder_costs_nothing_on_real_mirrored_frames():
    """A point-wise convolution is equivariant; its clips are mirrored frame by frame, all together."""
    frames, head = draw(2, 3, 4, 6, 5), draw(7, 8, seed=3)  # (B, T, C, H, W)
    filters = draw(8, 4, 1, 1, seed=4)

    def maps(clip):
        features = F.conv2d(clip.flatten(0, 1), filters).relu().unflatten(0, clip.shape[:2])
        return class_activation_maps(features, head)

    weight = class_weights(RAF_DB)
    assert maps(frames).shape == (2, 3, 7, 6, 5)
    assert attention_consistency(maps(frames), maps(frames.flip(-1)), weight, 1.0).item() < 1e-24
    assert attention_consistency(maps(frames), maps(frames), weight, 1.0) > 0.1


def test_a_clip_of_equal_frames_is_an_image():
    cam, flipped, weight = draw(2, 7, 4, 5), draw(2, 7, 4, 5, seed=1), class_weights(RAF_DB)
    clip, clip_flip = (maps[:, None].expand(-1, 3, -1, -1, -1) for maps in (cam, flipped))
    torch.testing.assert_close(
        attention_consistency(clip, clip_flip, weight, 2.0), attention_consistency(cam, flipped, weight, 2.0)
    )


def test_the_head_gets_no_gradient_and_the_features_of_both_branches_do():
    head = draw(7, 5, seed=2).requires_grad_()
    features, mirrored = draw(2, 5, 3, 4).requires_grad_(), draw(2, 5, 3, 4, seed=1).requires_grad_()
    maps = class_activation_maps(features, head), class_activation_maps(mirrored, head)
    attention_consistency(*maps, class_weights(RAF_DB), 1.0).backward()
    assert head.grad is None
    assert features.grad.abs().min() > 0 and mirrored.grad.abs().min() > 0


def test_the_strength_does_not_depend_on_the_scale_of_the_weights():
    cam, flipped, weight = draw(2, 7, 4, 5), draw(2, 7, 4, 5, seed=1), class_weights(RAF_DB)
    torch.testing.assert_close(
        attention_consistency(cam, flipped, weight, 1.0), attention_consistency(cam, flipped, 9 * weight, 1.0)
    )


def test_targets_in_double_precision_are_smoothed_in_it():
    matrix = extra_knowledge.smooth_label_matrix(torch.tensor([1.0, 2.0, 4.0]), 0.3)
    target = torch.tensor([[0.25, 0.25, 0.5]], dtype=torch.float64)
    torch.testing.assert_close(extra_knowledge.soft_targets(target, matrix), target @ matrix.double())

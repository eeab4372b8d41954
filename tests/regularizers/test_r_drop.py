import math

import pytest
import torch
from torch.nn import functional as F

from mote.regularizers.r_drop import check_noise, symmetric_kl


def test_a_case_by_hand():
    """P1 = (1/2, 1/2), P2 = (1/4, 3/4): KL12 = 1/2 ln 2 + 1/2 ln 2/3, KL21 = 1/4 ln 1/2 + 3/4 ln 3/2."""
    first, second = torch.tensor([[0.5, 0.5]]).log(), torch.tensor([[0.25, 0.75]]).log() + 7
    kl12 = 0.5 * math.log(2) + 0.5 * math.log(2 / 3)
    kl21 = 0.25 * math.log(1 / 2) + 0.75 * math.log(3 / 2)
    assert symmetric_kl(first, second).item() == pytest.approx((kl12 + kl21) / 2, rel=1e-5)


def test_against_torch_with_its_gradients_in_both_passes():
    generator = torch.Generator().manual_seed(0)
    ours = [torch.randn(6, 9, generator=generator).mul_(3).requires_grad_() for _ in range(2)]
    theirs = [logits.detach().clone().requires_grad_() for logits in ours]
    symmetric_kl(ours[0], ours[1], 2.0).mean().backward()
    p, q = (F.log_softmax(logits / 2.0, dim=-1) for logits in theirs)
    kl = F.kl_div(q, p, reduction="none", log_target=True) + F.kl_div(p, q, reduction="none", log_target=True)
    (0.5 * kl.sum(-1)).mean().backward()
    for mine, other in zip(ours, theirs, strict=True):
        assert mine.grad.abs().max() > 0
        torch.testing.assert_close(mine.grad, other.grad, rtol=1e-4, atol=1e-7)


def test_per_sample_symmetric_and_zero_only_where_equal():
    generator = torch.Generator().manual_seed(0)
    first, second = torch.randn(5, 4, generator=generator), torch.randn(5, 4, generator=generator)
    second[2] = first[2] + 3  # the same distribution
    kl = symmetric_kl(first, second)
    torch.testing.assert_close(kl, symmetric_kl(second, first))
    assert kl[2] < 1e-12 and (kl[[0, 1, 3, 4]] > 1e-3).all()
    parts = torch.cat([symmetric_kl(first[:2], second[:2]), symmetric_kl(first[2:], second[2:])])
    assert torch.equal(kl, parts)  # no sample feels the others: alpha is independent of the batch
    sharp, _ = torch.randn(2, 5, 4, generator=generator).mul_(300).unbind()
    assert symmetric_kl(sharp, -sharp).isfinite().all()


def test_mistakes():
    logits = torch.randn(3, 4)
    with pytest.raises(ValueError, match="temperature"):
        symmetric_kl(logits, logits, 0.0)
    with pytest.raises(ValueError, match="identical"):
        check_noise(logits, logits.clone())
    check_noise(logits, logits + 1e-6)


def test_half_logits_are_compared_in_single_precision():
    first, second = (torch.randn(6, 5, generator=torch.Generator().manual_seed(s)).bfloat16() for s in (0, 1))
    value = symmetric_kl(first, second, 1.0)
    assert value.dtype == torch.float32 and torch.equal(value, symmetric_kl(first.float(), second.float(), 1.0))

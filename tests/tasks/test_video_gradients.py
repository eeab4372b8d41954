"""Where the gradient of each term of the video task goes: into what, and how much, against derivatives by hand.

Every term is compared with its directional derivative by finite differences, or, where the method stops a gradient on
purpose, with the gradient of a formula written here. Parameters that a term must not reach are listed.
"""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from mote.models.clip import ClassFeatures
from mote.models.routing import one_expert, random_merge
from mote.models.temporal import TemporalHead
from mote.models.video_clip import VideoCLIP
from mote.tasks.video import VideoTask

B, T, D, K = 3, 2, 6, 4
SEED = 8
HEAD = {"position", "in_proj_weight", "in_proj_bias", "out_proj", "ln_1", "ln_2", "up", "down"}
TOWER = {"visual"}


class Names(ClassFeatures):
    """Class features that are learned, in the place of a text tower."""

    def __init__(self):
        nn.Module.__init__(self)
        self.table = nn.Parameter(torch.randn(K, D))

    def forward(self):
        return F.normalize(self.table, dim=-1)


def make_task(experts=2, **options) -> VideoTask:
    """In double precision, with experts that say different things."""
    torch.manual_seed(0)
    visual = nn.Sequential(nn.Flatten(), nn.Linear(12, D), nn.Tanh())
    head = TemporalHead(D, 2, num_heads=2, num_experts=experts)
    model = VideoCLIP(visual, torch.tensor(1.0), head, embed_dim=D, mean=(0.4,) * 3, std=(0.3,) * 3)
    task = VideoTask(model, torch.eye(K, D), class_features=Names(), **options).double()
    with torch.no_grad():
        for parameter in task.model.temporal.parameters():
            parameter.add_(0.4 * torch.randn_like(parameter))
    return task


def make_batch() -> dict[str, torch.Tensor]:
    frames = torch.randint(0, 256, (B, T, 3, 2, 2), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    return {"frames": frames, "label": torch.tensor([0, 3, 1]), "valid": torch.tensor([True, False, True])}


def seeded() -> torch.Generator:
    """Of whose draws the first and the third, the two of R-Drop, are not the same."""
    return torch.Generator().manual_seed(SEED)


def term(task: VideoTask, name: str) -> torch.Tensor:
    return task(make_batch(), seeded())[1][name]


def reached(task: VideoTask, value: torch.Tensor) -> set[str]:
    """The parts of the model into which the gradient of `value` goes."""
    names, parameters = zip(*task.named_parameters(), strict=True)
    found = set()
    for name, grad in zip(
        names, torch.autograd.grad(value, parameters, retain_graph=True, allow_unused=True), strict=True
    ):
        if grad is not None and grad.abs().max() > 1e-12:
            found.add(part_of(name))
    return found


def part_of(name: str) -> str:
    """The part of the model that a parameter belongs to."""
    parts = ("visual", "logit_scale", "class_features", *sorted(HEAD))
    return next(part for part in parts if f".{part}" in f".{name}")


def directional(task: VideoTask, name: str, step=1e-5) -> list[tuple[str, float, float]]:
    """(part, slope of the term along a random direction of all its parameters, the same by autograd)."""
    names, parameters = zip(*task.named_parameters(), strict=True)
    grads = torch.autograd.grad(term(task, name), parameters, allow_unused=True)
    generator = torch.Generator().manual_seed(5)
    directions = [torch.randn(p.shape, dtype=torch.float64, generator=generator) for p in parameters]
    rows = []
    for part in sorted(set(map(part_of, names))):
        own = [i for i, title in enumerate(names) if part_of(title) == part]
        values = []
        for sign in (1, -2):  # to the one side, then to the other
            with torch.no_grad():
                for i in own:
                    parameters[i].add_(sign * step * directions[i])
            values.append(term(task, name).item())
        with torch.no_grad():
            for i in own:
                parameters[i].add_(step * directions[i])
        ours = sum((grads[i] * directions[i]).sum().item() for i in own if grads[i] is not None)
        rows.append((part, (values[0] - values[1]) / (2 * step), ours))
    return rows


@pytest.mark.parametrize(
    ("name", "options", "parts"),
    [
        ("ce", {}, TOWER | HEAD | {"logit_scale", "class_features"}),
        ("ce", {"routing": "all"}, TOWER | HEAD | {"logit_scale", "class_features"}),
        ("merged_ce", {}, TOWER | HEAD | {"logit_scale", "class_features"}),
        ("anchor", {"anchor": "released"}, TOWER | HEAD),
        ("anchor", {"anchor": "paper"}, TOWER | HEAD),
        ("anchor", {"anchor": "paper", "experts": 1}, TOWER | HEAD),
        ("ce", {"experts": 1}, TOWER | HEAD | {"logit_scale", "class_features"}),
    ],
)
def test_a_term_without_a_stopped_gradient_teaches_all_that_it_depends_on(name, options, parts):
    task = make_task(**options)
    assert reached(task, term(task, name)) == parts
    rows = directional(task, name)
    for title, slope, ours in rows:
        assert ours == pytest.approx(slope, rel=1e-4, abs=1e-8), title
    assert sum(abs(slope) > 1e-5 for _, slope, _ in rows) == len(parts)


def test_r_drop_teaches_both_passes():
    """In single precision inside, hence the wider steps."""
    task = make_task(r_drop_weight=2.0)
    assert reached(task, term(task, "r_drop")) == TOWER | HEAD | {"logit_scale", "class_features"}
    rows = directional(task, "r_drop", step=1e-3)
    for title, slope, ours in rows:
        assert ours == pytest.approx(slope, rel=2e-2, abs=2e-3), title
    assert max(abs(slope) for _, slope, _ in rows) > 0.05
    for title, slope, ours in directional(task, "ce"):  # of both passes
        assert ours == pytest.approx(slope, rel=1e-4, abs=1e-8), title


@pytest.mark.parametrize("form", ["released", "paper"])
def test_the_anchor_reaches_the_tower_through_the_temporal_branch_alone(form):
    """z - e is h(e): the two ways in which e stands in the anchor cancel, for whichever form; nothing is detached."""
    task = make_task(anchor=form, anchor_weight=0.3)
    merge = random_merge(2, 2, _after_one_expert())
    features = task.model.encode_frames(make_batch()["frames"])
    branch = task.model.temporal(features, merge)[make_batch()["valid"]]
    value = branch.square().mean() if form == "released" else branch.mean(1).square().sum(-1).mean()
    own = list(task.model.parameters())
    expected = torch.autograd.grad(0.3 * value, own, allow_unused=True)
    found = torch.autograd.grad(term(task, "anchor"), own, allow_unused=True)
    for (name, _), a, b in zip(task.model.named_parameters(), found, expected, strict=True):
        assert (a is None) == (b is None), name
        if a is not None:
            torch.testing.assert_close(a, b, msg=name)
    assert task.model.visual[1].weight.grad is None and found[1].abs().max() > 1e-6


def _after_one_expert() -> torch.Generator:
    generator = seeded()
    one_expert(2, 2, generator)
    return generator


@pytest.mark.parametrize("name", ["merged_kl", "merged_mse"])
def test_a_merged_pass_that_learns_from_the_routed_one_leaves_its_target_alone(name):
    """Value and gradient of a formula in which the routed pass is numbers; the features are shared by both passes."""
    task, batch = make_task(merged=name.removeprefix("merged_"), merged_weight=0.7), make_batch()
    generator = seeded()
    route, merge = one_expert(2, 2, generator), random_merge(2, 2, generator)
    features, text = task.model.encode_frames(batch["frames"]), task.class_text()
    own, fixed = task.model.head(features, merge), task.model.head(features, route).detach()
    if name == "merged_kl":
        p = task.model.classify(fixed, text).softmax(-1).detach()
        log_q = task.model.classify(own, text).log_softmax(-1)
        each = (p * (p.log() - log_q)).sum(-1)
    else:
        each = (own - fixed).square().mean((1, 2))
    expected = 0.7 * each[batch["valid"]].mean()
    found = term(task, name)
    assert found.item() == pytest.approx(expected.item(), rel=1e-9)
    both = [
        torch.autograd.grad(v, list(task.parameters()), retain_graph=True, allow_unused=True) for v in (found, expected)
    ]
    for (title, _), a, b in zip(task.named_parameters(), *both, strict=True):
        a, b = (torch.zeros(1).double() if g is None else g for g in (a, b))
        assert torch.allclose(a, b, atol=1e-10, rtol=1e-7), title
    more = {"logit_scale", "class_features"} if name == "merged_kl" else set()
    assert reached(task, found) == TOWER | HEAD | more


def test_a_pass_teaches_the_experts_that_it_ran_and_no_others():
    """Up to E - 1 of 4 experts a layer; the merged pass teaches all, R-Drop those of its two draws."""
    task = make_task(experts=4, r_drop_weight=1.0)
    generator = seeded()
    first, _, second = one_expert(2, 4, generator), random_merge(2, 4, generator), one_expert(2, 4, generator)
    both = (first + second).bool()
    for name, used in (("r_drop", both), ("ce", both), ("merged_ce", torch.ones(2, 4).bool())):
        for block, row in zip(task.model.temporal.layers(), used, strict=True):
            for stack in block.mlp.parameters():
                grad = torch.autograd.grad(term(task, name), stack)[0]
                assert torch.equal(grad.flatten(1).abs().amax(1) > 0, row), name


def test_weights_scale_gradients_and_terms_of_weight_zero_cost_no_pass():
    calls = []
    for weight in (0.0, 0.25, 0.5):
        task = make_task(merged_weight=weight, anchor_weight=weight)
        task.model.temporal.register_forward_hook(lambda _m, _i, out: calls.append(out.shape[:-3].numel()))
        loss, terms = task(make_batch(), seeded())
        parts = sum(value for name, value in terms.items() if name != "ce")
        if weight:
            slope = torch.autograd.grad(parts, task.model.visual[1].weight, retain_graph=True)[0] / weight
            first = slope if weight == 0.25 else first
            torch.testing.assert_close(slope, first)
            whole = torch.autograd.grad(loss, task.model.visual[1].weight, retain_graph=True)[0]
            ce = torch.autograd.grad(terms["ce"], task.model.visual[1].weight)[0]
            torch.testing.assert_close(whole, ce + weight * slope)
    assert calls == [1, 2, 2]


def test_a_step_of_which_nothing_is_valid_moves_nothing():
    task, batch = make_task(r_drop_weight=1.0), make_batch()
    batch["valid"] = torch.zeros(B, dtype=torch.bool)
    loss, terms = task(batch, seeded())
    assert set(terms) == {"ce", "r_drop", "merged_ce", "anchor"}
    assert all(value.item() == 0 for value in (loss, *terms.values()))
    for name, parameter in task.named_parameters():
        grad = torch.autograd.grad(loss, parameter, retain_graph=True)[0]
        assert not grad.any(), name

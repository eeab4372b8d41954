import itertools
import math

import pytest
import torch
from torch import nn

from mote.models.routing import draw_depth, one_expert, random_merge
from mote.models.temporal import TemporalHead
from mote.models.video_clip import VideoCLIP
from mote.regularizers.weight_merging import anchor_loss
from mote.tasks.video import VideoTask

B, T, D, K = 4, 3, 8, 5


class Counted(nn.Module):
    """A visual tower that counts its calls."""

    def __init__(self):
        super().__init__()
        self.proj, self.calls = nn.Linear(48, D), 0

    def forward(self, images):
        self.calls += 1
        return self.proj(images.flatten(1))


def make_model(layers=2, experts=3, **options) -> VideoCLIP:
    torch.manual_seed(0)
    visual = Counted()
    head = TemporalHead(D, layers, num_heads=2, num_experts=experts, **options) if layers else None
    return VideoCLIP(visual, torch.tensor(1.5), head, embed_dim=D, mean=(0.4,) * 3, std=(0.3,) * 3)


def make_task(layers=2, experts=3, part="ffn", **options) -> VideoTask:
    model = make_model(layers, experts, expert_part=part)
    return VideoTask(model, nn.functional.normalize(torch.randn(K, D), dim=-1), **options)


def make_batch(valid=(True,) * B) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {
        "frames": torch.randint(0, 256, (B, T, 3, 4, 4), dtype=torch.uint8, generator=generator),
        "label": torch.tensor([0, 4, 2, 2]),
        "valid": torch.tensor(valid),
    }


def seeded(seed=3) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def expected_terms(task, batch, kept, merged_weight, anchor_weight, form, experts=3) -> dict[str, float]:
    """The sums of the paper, clip by clip and number by number (eq. 5-10)."""
    model, generator = task.model, seeded()
    routing = one_expert(2, experts, generator) if experts > 1 else None
    merge = random_merge(2, experts, generator) if experts > 1 else None
    ce, merged_ce, anchor = [], [], []
    for b in kept:
        e = model.encode_frames(batch["frames"][b : b + 1])
        for losses, route in ((ce, routing), (merged_ce, merge)):
            z = model.head(e, route)[0]
            mean = [sum(z[t, d].item() for t in range(T)) / T for d in range(D)]
            length = math.sqrt(sum(x * x for x in mean))
            logits = [
                math.exp(model.logit_scale.item()) * sum(x * y.item() for x, y in zip(mean, row, strict=True)) / length
                for row in task.text
            ]
            losses.append(math.log(sum(map(math.exp, logits))) - logits[int(batch["label"][b])])
        difference = (model.head(e, merge) - e)[0]  # (T, D)
        if form == "released":
            anchor.append(sum(x.item() ** 2 for x in difference.flatten()) / (T * D))
        else:
            anchor.append(sum((sum(difference[t, d].item() for t in range(T)) / T) ** 2 for d in range(D)))
    mean_of = lambda values: sum(values) / len(kept)  # noqa: E731
    terms = {
        "ce": mean_of(ce),
        "merged_ce": merged_weight * mean_of(merged_ce),
        "anchor": anchor_weight * mean_of(anchor),
    }
    return {name: value for name, value in terms.items() if name != "merged_ce" or experts > 1}


@pytest.mark.parametrize("form", ["released", "paper"])
@pytest.mark.parametrize("valid", [(True, True, True, True), (True, False, True, False)])
def test_terms_are_the_sums_of_the_paper(form, valid):
    task = make_task(merged_weight=0.7, anchor_weight=0.3, anchor=form)
    batch = make_batch(valid)
    loss, terms = task(batch, seeded())
    expected = expected_terms(task, batch, [b for b in range(B) if valid[b]], 0.7, 0.3, form)
    assert {name: value.item() for name, value in terms.items()} == pytest.approx(expected, rel=1e-5)
    assert loss.item() == pytest.approx(sum(expected.values()), rel=1e-5)
    assert task.model.visual.calls == 1 + sum(valid)  # CLIP runs once in the task, once per clip in the oracle


def test_default_weights_are_the_papers():
    terms = make_task()(make_batch(), seeded())[1]
    expected = expected_terms(make_task(), make_batch(), range(B), 0.5, 0.1, "released")
    assert {name: value.item() for name, value in terms.items()} == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("layers", "experts", "merged", "anchor", "names"),
    [
        (2, 3, 0.5, 0.1, {"ce", "merged_ce", "anchor"}),
        (2, 3, 0.0, 0.1, {"ce", "anchor"}),
        (2, 3, 0.5, 0.0, {"ce", "merged_ce"}),
        (2, 3, 0.0, 0.0, {"ce"}),
        (2, 1, 0.5, 0.1, {"ce", "anchor"}),
        (0, 1, 0.5, 0.1, {"ce"}),
    ],
)
def test_terms_without_effect_are_absent_and_every_parameter_has_a_gradient(layers, experts, merged, anchor, names):
    task = make_task(layers, experts, merged_weight=merged, anchor_weight=anchor)
    passes = []
    if layers:
        task.model.temporal.register_forward_hook(
            lambda _m, _i, out: passes.extend([1] * (len(out) if out.ndim == 4 else 1))
        )
    loss, terms = task(make_batch(), seeded())
    assert set(terms) == names
    assert len(passes) == (0 if not layers else 2 if experts > 1 and (merged or anchor) else 1)
    loss.backward()
    assert [name for name, p in task.named_parameters() if p.grad is None] == []


def test_one_expert_anchor_reads_the_single_pass():
    task = make_task(experts=1)
    terms = task(make_batch(), seeded())[1]
    expected = expected_terms(task, make_batch(), range(B), 0.5, 0.1, "released", experts=1)
    assert {name: value.item() for name, value in terms.items()} == pytest.approx(expected, rel=1e-5)


def test_merging_reaches_all_experts_where_routing_reaches_one():
    grads = {}
    for weight in (0.0, 0.5):
        task = make_task(merged_weight=weight, anchor_weight=0.0)
        task(make_batch(), seeded())[0].backward()
        grads[weight] = [block.mlp.up_weight.grad.abs().amax((1, 2)) > 0 for block in task.model.temporal.blocks]
    chosen = one_expert(2, 3, seeded()).bool()
    assert all(torch.equal(row, one) for row, one in zip(grads[0.0], chosen, strict=True))
    assert all(row.all() for row in grads[0.5])


@pytest.mark.parametrize(("part", "rows"), [("up", 2), ("down", 2), ("separate", 4)])
def test_parts_of_the_feed_forward_network_are_drawn_each_on_its_own(part, rows):
    task = make_task(part=part, merged_weight=0.0, anchor_weight=0.0)
    task(make_batch(), seeded())[0].backward()
    chosen = one_expert(rows, 3, seeded()).view(2, -1, 3).bool()  # (layer, routed parts, expert)
    for block, row in zip(task.model.temporal.blocks, chosen, strict=True):
        for name, drawn in (("up_weight", row[0]), ("down_weight", row[-1])):
            used = getattr(block.mlp, name).grad.abs().amax((1, 2)) > 0
            assert torch.equal(used, drawn if len(used) > 1 else torch.tensor([True]))
    merged = make_task(part=part)
    merged(make_batch(), seeded())[0].backward()
    assert all(
        p.grad is not None and p.grad.flatten(1).any(1).all()
        for p in merged.model.temporal.blocks.parameters()
        if p.ndim == 3
    )
    video = merged.model.encode_frames(make_batch()["frames"])
    torch.testing.assert_close(merged.model.fold().head(video), merged.model.head(video))


def test_invalid_clips_do_not_matter_and_none_valid_is_zero():
    task, batch = make_task(), make_batch((True, True, False, False))
    first = task(batch, seeded())[0]
    batch["frames"][2:], batch["label"][2:] = 0, 1
    assert task(batch, seeded())[0].item() == pytest.approx(first.item(), rel=1e-6)
    loss, terms = task(make_batch((False,) * B), seeded())
    loss.backward()
    assert loss.item() == 0 and all(value.item() == 0 for value in terms.values())
    assert all(p.grad is not None and not p.grad.any() for p in task.parameters())


def test_cached_features_give_the_same_loss_and_the_generator_decides():
    task, batch = make_task(), make_batch()
    first = task(batch, seeded())[0]
    cached = {"features": task.model.encode_frames(batch["frames"]).detach(), "label": batch["label"]}
    assert task(cached, seeded())[0].item() == pytest.approx(first.item(), rel=1e-6)
    assert task(batch, seeded())[0].item() == first.item()
    others = {task(batch, seeded(seed))[0].item() for seed in range(10)}
    assert len(others) > 3


def test_predict_is_the_mean_of_the_experts_weights():
    """Uniform merging equals a model whose every expert is that mean."""
    task, twin = make_task().eval(), make_task().eval()
    with torch.no_grad():
        for block, name in itertools.product(
            twin.model.temporal.blocks, ("up_weight", "up_bias", "down_weight", "down_bias")
        ):
            weight = getattr(block.mlp, name)
            weight.copy_(weight.mean(0, keepdim=True).expand_as(weight))
    logits = task.predict(make_batch())
    assert logits.shape == (B, K) and not logits.requires_grad
    features = twin.model.encode_frames(make_batch()["frames"])
    expected = twin.model.classify(twin.model.head(features, one_expert(2, 3, seeded())), twin.text)
    torch.testing.assert_close(logits, expected.detach(), rtol=1e-4, atol=1e-5)


def test_mistakes():
    with pytest.raises(ValueError, match="negative"):
        make_task(merged_weight=-1.0)
    with pytest.raises(ValueError, match="width 6"):
        VideoTask(make_task().model, torch.randn(K, 6))


def test_r_drop_is_equation_4_of_two_routings_of_the_same_features():
    options = {"merged_weight": 0.5, "anchor_weight": 0.1}
    task, batch = make_task(r_drop_weight=0.6, r_drop_temperature=2.0, **options), make_batch((True, True, False, True))
    twin = make_task(**options)
    for model in (task.model, twin.model):  # fresh experts say nearly the same
        for block in model.temporal.blocks:
            block.mlp.up_weight.data.mul_(30)
            block.mlp.down_weight.data.mul_(30)
    loss, terms = task(batch, seeded())
    plain, without = twin(batch, seeded())
    generator = seeded()
    first, _, second = one_expert(2, 3, generator), random_merge(2, 3, generator), one_expert(2, 3, generator)
    assert not torch.equal(first, second)
    features = task.model.encode_frames(batch["frames"])
    assert task.model.visual.calls == 2  # once in the task, once here: CLIP runs once for both passes
    logits = [task.model.classify(task.model.head(features, r), task.text).detach() for r in (first, second)]
    kept = batch["valid"].nonzero().flatten().tolist()
    kl = ce = 0.0
    for b in kept:
        p, q = (torch.softmax(rows[b] / 2.0, dim=0) for rows in logits)
        kl += 0.5 * ((p * (p / q).log()).sum() + (q * (q / p).log()).sum()).item() / len(kept)
        ce -= sum(torch.log_softmax(rows[b], dim=0)[batch["label"][b]].item() for rows in logits) / len(kept)
    assert terms["r_drop"].item() == pytest.approx(0.6 * kl, rel=1e-3)
    assert terms["ce"].item() == pytest.approx(ce, rel=1e-5)
    for name in ("merged_ce", "anchor"):  # the other draws are those without R-Drop
        assert terms[name].item() == pytest.approx(without[name].item(), rel=1e-5)
    assert loss.item() > plain.item()
    loss.backward()
    assert all(p.grad is not None for p in task.parameters())


def test_r_drop_does_not_depend_on_how_a_batch_is_cut():
    """Terms and gradients of a batch are the means over its halves, as in micro steps that share a routing."""
    task = make_task(r_drop_weight=0.6, r_drop_temperature=2.0)
    for block in task.model.temporal.blocks:
        block.mlp.up_weight.data.mul_(30)
        block.mlp.down_weight.data.mul_(30)
    batch = make_batch()
    loss, terms = task(batch, seeded())
    gradients = torch.autograd.grad(loss, list(task.parameters()))
    halves = [task({name: value[i : i + 2] for name, value in batch.items()}, seeded()) for i in (0, 2)]
    assert terms["r_drop"] > 1e-4
    for name, value in terms.items():
        assert value.item() == pytest.approx(sum(half[1][name].item() for half in halves) / 2, rel=1e-5)
    cut = torch.autograd.grad((halves[0][0] + halves[1][0]) / 2, list(task.parameters()))
    for whole, sum_of_halves in zip(gradients, cut, strict=True):
        torch.testing.assert_close(sum_of_halves, whole, rtol=1e-4, atol=1e-6)


def test_r_drop_costs_a_pass_only_where_it_is_on_and_refuses_one_expert():
    passes = []
    for weight in (0.0, 1.0):
        task = make_task(r_drop_weight=weight)
        task.model.temporal.register_forward_hook(lambda _m, _i, out: passes.append(len(out)))
        assert ("r_drop" in task(make_batch(), seeded())[1]) == bool(weight)
    assert passes == [2, 3]
    for layers, experts in ((2, 1), (0, 1)):
        with pytest.raises(ValueError, match="identical"):
            make_task(layers, experts, r_drop_weight=1.0)


def test_targets_go_before_labels_and_mixed_pixels_are_read():
    task, batch = make_task(r_drop_weight=0.5), make_batch()
    first = task(batch, seeded())[0].item()
    soft = nn.functional.one_hot(batch["label"], K).float()
    same = {**batch, "frames": batch["frames"].float(), "label": batch["label"] * 0, "target": soft}
    before = same["frames"].clone()
    assert task(same, seeded())[0].item() == pytest.approx(first, rel=1e-5)
    assert torch.equal(same["frames"], before)  # the model left the batch alone


@pytest.mark.parametrize("part", ["ffn", "up", "down", "separate"])
def test_both_passes_of_r_drop_reach_the_experts_they_drew(part):
    model = make_model(expert_part=part)
    text = nn.functional.normalize(torch.randn(K, D), dim=-1)
    task = VideoTask(model, text, merged_weight=0.0, anchor_weight=0.0, r_drop_weight=1.0)
    draws = task.draw(seeded())
    assert set(draws) == {"routed", "second"}
    task(make_batch(), seeded())[0].backward()
    assert all(p.grad is not None for p in task.parameters())
    chosen = (draws["routed"] + draws["second"])[0].bool()  # (L, E), or (L, 2 E) where both halves are routed
    for row, block in zip(chosen, model.temporal.blocks, strict=True):
        halves = {"up_weight": row[:3], "down_weight": row[-3:]}
        for name, drawn in halves.items():
            grad = getattr(block.mlp, name).grad.abs().amax((1, 2)) > 0
            assert torch.equal(grad, drawn if len(grad) == 3 else torch.ones(1, dtype=torch.bool))


def by_hand(task, batch, route) -> tuple[list[list[float]], torch.Tensor]:
    """Probabilities of every clip as lists of numbers, and video features (B, T, D), for one routing."""
    video = task.model.head(task.model.encode_frames(batch["frames"]), route).detach()
    scale, rows = math.exp(task.model.logit_scale.item()), []
    for clip in video:
        mean = [sum(clip[t, d].item() for t in range(T)) / T for d in range(D)]
        length = math.sqrt(sum(x * x for x in mean))
        logits = [scale * sum(x * y.item() for x, y in zip(mean, row, strict=True)) / length for row in task.text]
        total = sum(map(math.exp, logits))
        rows.append([math.exp(x) / total for x in logits])
    return rows, video


def louder(task):
    """Experts that say different things, as trained ones do."""
    for block in task.model.temporal.blocks:
        block.mlp.up_weight.data.mul_(30)
        block.mlp.down_weight.data.mul_(30)
    return task


@pytest.mark.parametrize("part", ["ffn", "separate"])
def test_all_data_to_every_expert_is_the_mean_over_the_networks_of_one_expert_each(part):
    """Table 2a. The networks are taken apart: one of one expert for each number."""
    task, batch = louder(make_task(part=part, routing="all")), make_batch((True, False, True, True))
    terms = task(batch, seeded())[1]
    assert task.model.visual.calls == 1
    losses = []
    for i in range(3):
        alone = make_task(experts=1, anchor_weight=0.0)
        state = task.state_dict()
        stacks = {name: value[i : i + 1] for name, value in state.items() if ".mlp." in name}
        alone.load_state_dict(state | stacks)
        losses.append(alone(batch, seeded())[0].item())
    assert len({round(loss, 4) for loss in losses}) == 3
    assert terms["ce"].item() == pytest.approx(sum(losses) / 3, rel=1e-5)
    # The merged pass is that of a twin which draws its experts, with the same state of the generator before the draw.
    rows = 4 if part == "separate" else 2
    merge = random_merge(rows, 3, seeded()).reshape(2, -1)
    probabilities, _ = by_hand(task, batch, merge)
    kept = [b for b in range(B) if batch["valid"][b]]
    expected = -sum(math.log(probabilities[b][int(batch["label"][b])]) for b in kept) / len(kept)
    assert terms["merged_ce"].item() == pytest.approx(0.5 * expected, rel=1e-5)


def test_all_data_reaches_every_expert_and_equal_ones_stay_equal():
    """From one start experts that see all the data stay one network: the paper's row "same, all" is its baseline."""
    task = make_task(routing="all", anchor_weight=0.0, merged_weight=0.0)
    task(make_batch(), seeded())[0].backward()
    for block in task.model.temporal.blocks:
        assert (block.mlp.up_weight.grad.abs().amax((1, 2)) > 0).all()
    model = make_model(same_init=True)
    same = VideoTask(model, task.text, routing="all", merged_weight=0.0, anchor_weight=0.0)
    same(make_batch(), seeded())[0].backward()
    for block in model.temporal.blocks:
        grad = block.mlp.up_weight.grad
        torch.testing.assert_close(grad, grad[:1].expand_as(grad))


@pytest.mark.parametrize("form", ["released", "paper"])
@pytest.mark.parametrize("merged", ["kl", "mse"])
def test_the_merged_pass_learns_from_the_routed_one(merged, form):
    """Table 7c, number by number; the routed pass, which is the target, gets no gradient of it."""
    task, batch = (
        louder(make_task(merged=merged, merged_weight=0.7, anchor=form)),
        make_batch((True, False, True, True)),
    )
    terms = task(batch, seeded())[1]
    assert set(terms) == {"ce", f"merged_{merged}", "anchor"}
    generator = seeded()
    (p, target), (q, video) = (by_hand(task, batch, r) for r in
                               (one_expert(2, 3, generator), random_merge(2, 3, generator)))  # fmt: skip
    kept = [b for b in range(B) if batch["valid"][b]]
    total = 0.0
    for b in kept:
        if merged == "kl":
            total += sum(x * math.log(x / y) for x, y in zip(p[b], q[b], strict=True))
        elif form == "released":
            total += sum((video[b, t, d] - target[b, t, d]).item() ** 2 for t in range(T) for d in range(D)) / (T * D)
        else:
            pooled = [sum((video[b, t, d] - target[b, t, d]).item() for t in range(T)) / T for d in range(D)]
            total += sum(x * x for x in pooled)
    assert total > 0.01
    assert terms[f"merged_{merged}"].item() == pytest.approx(0.7 * total / len(kept), rel=1e-3)
    # The gradient is that of a constant target.
    features = task.model.encode_frames(batch["frames"])
    merge = random_merge(2, 3, seeded_after_routing())
    own = task.model.head(features, merge)
    valid, weights = batch["valid"], task.model.temporal.blocks[0].mlp.up_weight
    if merged == "kl":
        log_q = torch.log_softmax(task.model.classify(own, task.text), dim=-1)
        expected = -(torch.tensor(p) * log_q).sum(-1)[valid].mean()
    else:
        difference = (own - target)[valid]
        expected = (difference**2).mean() if form == "released" else difference.mean(1).square().sum(-1).mean()
    ours = torch.autograd.grad(terms[f"merged_{merged}"], weights)[0]
    torch.testing.assert_close(ours, 0.7 * torch.autograd.grad(expected, weights)[0], rtol=1e-3, atol=1e-6)


def seeded_after_routing() -> torch.Generator:
    generator = seeded()
    one_expert(2, 3, generator)
    return generator


def test_unknown_values_and_r_drop_without_a_draw_are_refused():
    for options in ({"routing": "some"}, {"merged": "l1"}):
        with pytest.raises(ValueError, match="expected routing one or all"):
            make_task(**options)
    with pytest.raises(ValueError, match="identical"):
        make_task(routing="all", r_drop_weight=1.0)


def test_the_anchor_of_a_single_valid_clip_is_that_of_this_clip_alone():
    task = make_task(anchor_weight=1.0)
    batch = make_batch((False, False, True, False))
    alone = {key: value[2:3] for key, value in batch.items()}
    terms = [task(one, seeded())[1]["anchor"] for one in (batch, alone)]
    torch.testing.assert_close(*terms)


def test_experts_are_drawn_at_the_temperature_that_is_set():
    task = make_task(route_temperature=0.01)

    def drawn(seed: int, *temperature: float) -> torch.Tensor:
        generator = seeded(seed)
        return task.model.routing(lambda rows, experts: one_expert(rows, experts, generator, *temperature))

    draws = [task.draw(seeded(seed))["routed"][0] for seed in range(20)]
    assert all(torch.equal(draw, drawn(seed, 0.01)) for seed, draw in enumerate(draws))
    assert not all(torch.equal(draw, drawn(seed)) for seed, draw in enumerate(draws))


@pytest.mark.parametrize("experts", [1, 3])
def test_parts_of_layers_are_left_out_of_all_passes_of_a_step(experts):
    """What is left out is drawn after the routings, so that nothing changes where nothing is left out."""
    task, batch = make_task(experts=experts, drop_path=0.5), make_batch()
    plain = make_task(experts=experts)
    assert not torch.equal(task(batch, seeded(2))[0], plain(batch, seeded(2))[0])
    generator = seeded(2)
    draws = task.draw(generator)
    depth = draw_depth(2, 0.5, generator)
    assert set(depth.flatten().tolist()) == {0.0, 2.0}  # else this seed shows nothing
    head = plain.model.temporal.forward
    plain.model.temporal.forward = lambda features, routing, none: head(features, routing, depth)
    expected, found = plain(batch, seeded(2)), task(batch, seeded(2))
    assert torch.equal(expected[0], found[0]) and set(draws) == ({"routed", "merged"} if experts > 1 else set())
    assert torch.equal(task.predict(batch), plain_prediction(task, batch))  # nothing is left out


def plain_prediction(task, batch):
    return task.model.classify(task.model.head(task.model.encode_frames(batch["frames"])), task.text)


@pytest.mark.parametrize("form", ["released", "paper"])
@pytest.mark.parametrize("clip", [0, 2])
def test_the_anchor_of_the_only_valid_clip_is_its_own(form, clip):
    features, merged = torch.randn(2, B, T, D, generator=seeded())
    valid = torch.arange(B) == clip
    found = make_task(anchor=form).anchor_term(features, merged, valid)
    torch.testing.assert_close(found, anchor_loss(features[valid], merged[valid], form))

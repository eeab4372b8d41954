import pytest
import torch
from torch import nn
from torch.nn import functional as F

from mote.models.image_nets import ImageClassifier, LeNet
from mote.tasks.image import ImageTask

GENERATOR = torch.Generator()


def make_task(dropout=0.3, **options) -> ImageTask:
    torch.manual_seed(0)
    return ImageTask(ImageClassifier(LeNet(4, size=16, hidden=8, dropout=dropout)), **options)


def make_batch(count=6) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (count, 1, 16, 16), dtype=torch.uint8, generator=generator)
    return {"images": images, "label": torch.arange(count) % 4}


def test_r_drop_is_equation_4_of_two_passes():
    task, batch = make_task(r_drop_weight=0.7, r_drop_temperature=2.0), make_batch()
    torch.manual_seed(5)
    loss, terms = task(batch, GENERATOR)
    torch.manual_seed(5)
    logits = task.model(torch.cat([batch["images"]] * 2)).detach()
    ce, kl = 0.0, 0.0
    for b in range(6):
        rows = logits[b], logits[b + 6]
        p, q = (F.softmax(row / 2.0, dim=0) for row in rows)
        kl += 0.5 * ((p * (p / q).log()).sum() + (q * (q / p).log()).sum()).item() / 6
        ce -= sum(F.log_softmax(row, dim=0)[batch["label"][b]].item() for row in rows) / 6
    assert terms["ce"].item() == pytest.approx(ce, rel=1e-5)
    assert terms["r_drop"].item() == pytest.approx(0.7 * kl, rel=1e-4)
    assert loss.item() == pytest.approx(ce + 0.7 * kl, rel=1e-5)


def test_weight_zero_runs_one_pass_and_targets_go_before_labels():
    task, batch, rows = make_task(), make_batch(), []
    task.model.register_forward_hook(lambda _m, inputs, _o: rows.append(len(inputs[0])))
    torch.manual_seed(5)
    loss, terms = task(batch, GENERATOR)
    assert set(terms) == {"ce"} and rows == [6]
    torch.manual_seed(5)
    hard = {**batch, "label": torch.zeros(6).long(), "target": F.one_hot(batch["label"], 4).float()}
    assert task(hard, GENERATOR)[0].item() == pytest.approx(loss.item(), rel=1e-6)
    assert task.predict(batch).shape == (6, 4)


def test_invalid_images_weigh_nothing():
    task, batch = make_task().eval(), make_batch()
    batch["valid"] = torch.tensor([True, False] * 3)
    part = {name: batch[name][::2] for name in ("images", "label")}
    assert task(batch, GENERATOR)[0].item() == pytest.approx(task(part, GENERATOR)[0].item(), rel=1e-6)


def test_without_dropout_r_drop_refuses():
    with pytest.raises(ValueError, match="identical"):
        make_task(dropout=0.0, r_drop_weight=1.0)(make_batch(), GENERATOR)
    with pytest.raises(ValueError, match="negative"):
        ImageTask(nn.Identity(), r_drop_weight=-1.0)


def test_a_batch_of_which_nothing_is_valid_has_no_loss_and_no_gradient():
    task, batch = make_task(dropout=0.3, r_drop_weight=0.5), make_batch()
    loss, terms = task({**batch, "valid": torch.zeros(6, dtype=torch.bool)}, GENERATOR)
    loss.backward()
    assert loss.item() == 0 and all(value.item() == 0 for value in terms.values())
    assert all(p.grad is not None and not p.grad.any() for p in task.parameters())

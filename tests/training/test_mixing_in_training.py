"""Mixing inside the loop: it repeats exactly, and it moves nothing else that is random."""

import pytest
import torch
from toy_run import CLASSES, FaultyTask, make_task, run

from mote.datasets.mixing import METHODS, Mixer
from mote.training.step import NonFiniteError


def mixer() -> Mixer:
    return Mixer(tuple(METHODS), CLASSES, extent="spacetime")


class Watched(FaultyTask):
    """Notes what every forward pass was given."""

    def forward(self, batch, generator):
        self.notes.append(
            (batch["index"].tolist(), generator.initial_seed(), torch.initial_seed(), batch.get("target"))
        )
        return super().forward(batch, generator)


def watched(**options):
    task = make_task(**options)
    task.__class__ = Watched
    task.__dict__["notes"] = []
    return task


def test_a_run_stopped_in_mid_epoch_draws_the_same_mixtures_when_resumed(tmp_path):
    options = {"mix": mixer(), "save_every": 1, "dropout": 0.3}
    whole, _, _ = run(tmp_path / "whole", **options)
    with pytest.raises(NonFiniteError):
        run(tmp_path / "stopped", nan_at=9, **options)
    resumed, _, _ = run(tmp_path / "stopped", resume=True, **options)
    plain, _, _ = run(tmp_path / "plain", dropout=0.3)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name
    assert not torch.equal(whole.model.logit_scale, plain.model.logit_scale)


def test_mixing_moves_neither_samples_nor_routing_nor_dropout_nor_initial_weights(tmp_path):
    tasks = {}
    for name, mix in (("on", mixer()), ("off", None)):
        tasks[name] = watched()
        first = {key: value.clone() for key, value in tasks[name].state_dict().items()}
        run(tmp_path / name, task=tasks[name], mix=mix, accumulation=2)
        tasks[f"{name} at first"] = first
    assert [note[:3] for note in tasks["on"].notes] == [note[:3] for note in tasks["off"].notes]
    assert all(torch.equal(v, tasks["off at first"][k]) for k, v in tasks["on at first"].items())
    targets = [note[3] for note in tasks["on"].notes]
    assert all(note[3] is None for note in tasks["off"].notes)
    assert len({str(target.tolist()) for target in targets}) == len(targets)  # every micro step draws its own

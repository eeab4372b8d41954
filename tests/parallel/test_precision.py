import pytest

from mote.parallel.accelerator import make_accelerator
from mote.parallel.precision import training_precision


@pytest.mark.parametrize(("units", "auto"), [(True, "bf16"), (False, "fp32")])
def test_auto_precision_is_what_the_hardware_has_and_slow_bf16_is_told(monkeypatch, recwarn, units, auto):
    monkeypatch.setattr("mote.parallel.precision.has_bf16", lambda device: units and device.type == "cpu")
    wanted = ("auto", "bf16", "fp32", "fp16")
    assert [training_precision(one, cpu=True) for one in wanted] == [auto, "bf16", "fp32", "fp16"]
    assert [str(warning.message).startswith("optim.precision=bf16") for warning in recwarn] == [True] * (not units)
    assert make_accelerator("auto", cpu=True).mixed_precision == {"bf16": "bf16", "fp32": "no"}[auto]

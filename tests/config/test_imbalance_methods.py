"""The rows of `imbalance.method` and `imbalance.posthoc`: complete, and the only place that knows the names."""

import ast
from pathlib import Path
from typing import get_args

import pytest
import torch

import mote
from mote.config.imbalance_methods import METHODS, POSTHOC_METHODS
from mote.config.sections import ImbalanceConfig
from mote.experiments.parts import correction
from mote.regularizers.long_tail import LOSSES, checked_counts
from mote.tasks.long_tail import LongTailLoss

PACKAGE = Path(mote.__file__).parent
OWN = {PACKAGE / "config/sections.py", PACKAGE / "config/imbalance_methods.py"}


@pytest.mark.parametrize(("key", "rows"), [("method", METHODS), ("posthoc", POSTHOC_METHODS)])
def test_there_is_a_row_for_every_name_that_a_configuration_may_have(key, rows):
    assert list(rows) == [*get_args(ImbalanceConfig.model_fields[key].annotation)]


@pytest.mark.parametrize("name", METHODS)
def test_every_row_gives_a_loss_that_can_be_computed(name):
    assert METHODS[name].settings <= ImbalanceConfig.model_fields.keys()
    loss = LongTailLoss(checked_counts([5, 2, 1]), **correction(ImbalanceConfig(method=name)))
    assert loss(torch.randn(4, 3), torch.tensor([0, 1, 2, 0])).isfinite().all()
    assert (loss.weight[0] == loss.weight[2]) == (not METHODS[name].rebalanced)  # of the consistency


def test_no_other_file_of_the_package_names_a_method():
    """`ce` and `none` are too common to be looked for; names of losses may also stand in the table of losses."""
    names = (METHODS.keys() | POSTHOC_METHODS.keys()) - {"ce", "none"}
    for file in set(PACKAGE.rglob("*.py")) - OWN:
        allowed = LOSSES.keys() if file == PACKAGE / "regularizers/long_tail.py" else set()
        texts = {node.value for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Constant)}
        assert not (texts & names) - allowed, file


def test_only_plain_cross_entropy_needs_no_class_counts():
    assert [name for name, method in METHODS.items() if method.plain] == ["ce"]

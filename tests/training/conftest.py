"""What every test of the loop starts from."""

import pytest
from accelerate.state import AcceleratorState, GradientState


@pytest.fixture(autouse=True)
def fresh_accelerate():
    """accelerate keeps its state per process: forget it between tests."""
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()

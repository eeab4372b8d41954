"""The command line in the test's own process."""

from pathlib import Path

import pytest

from mote.cli import main


def mote(*arguments: str | Path) -> int:
    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments])
    assert isinstance(stop.value.code, int)
    return stop.value.code


def fails(capsys, *arguments: str | Path) -> str:
    """Exit code 2 and one line on stderr, which is returned."""
    capsys.readouterr()
    assert mote(*arguments) == 2
    error = capsys.readouterr().err.strip()
    assert error.startswith("mote: error: ") and "\n" not in error, error
    return error

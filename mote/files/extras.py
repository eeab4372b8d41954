"""Packages that not every user needs, and the one line that says how to get them."""

import importlib.util

DISTRIBUTION = "mote-video"


def install(*extras: str) -> str:
    """The command that installs this package with extras, `pip install 'mote-video[faces]'`."""
    return f"pip install '{DISTRIBUTION}[{','.join(extras)}]'"


def check_extra(extra: str, packages: tuple[str, ...], what: str) -> None:
    """Raise ValueError, naming the extra, where packages that `what` needs are not installed."""
    if missing := [name for name in packages if not _is_there(name)]:
        raise ValueError(f"{what} needs {' and '.join(missing)}: {install(extra)}")


def check_analysis(what: str) -> None:
    """Raise ValueError where scikit-learn and SciPy are not installed, which `what` needs."""
    check_extra("analysis", ("sklearn", "scipy"), what)


def _is_there(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except (ImportError, ValueError):  # a finder that refuses it, or a name that stands for nothing
        return False

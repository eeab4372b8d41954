"""What to say of a file that is not there."""

import difflib
import os
from pathlib import Path


def absent(path: Path | str, what: str = "file or folder") -> str:
    """`PATH: there is no such file or folder`, with the name beside it that comes closest."""
    path = Path(path)
    if path.exists():
        return f"{path}: is {'a folder, ' if path.is_dir() else ''}not a {what}"
    return f"{path}: there is no such {what}{near(path)}"


def near(path: Path) -> str:
    """` (is it OTHER?)`, the name in the same folder that comes closest; nothing where none does."""
    try:
        close = difflib.get_close_matches(path.name, os.listdir(path.parent), n=1, cutoff=0.75)
    except (OSError, ValueError):  # the folder is not there either, or the name is none
        close = []
    return f" (is it {path.with_name(close[0])}?)" if close else ""

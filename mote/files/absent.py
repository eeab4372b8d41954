"""What to say of a file that is not there."""

import difflib
import os
from pathlib import Path


def absent(path: Path | str, what: str = "file or folder") -> str:
    """`PATH: there is no such file or folder`, with the name beside it that comes closest."""
    path = Path(path)
    if path.exists():
        return f"{path}: is {'a folder, ' if path.is_dir() else ''}not a {what}"
    try:
        close = difflib.get_close_matches(path.name, os.listdir(path.parent), n=1, cutoff=0.75)
    except OSError:  # the folder is not there either
        close = []
    return f"{path}: there is no such {what}{f' (is it {path.with_name(close[0])}?)' if close else ''}"

"""The rules for the directory of a run, which are looked at before anything is built."""

import os
from pathlib import Path

from mote.files.temporary import is_own


def check_directory(out: Path, resume: bool, allowed: tuple[str, ...] = ()) -> None:
    """Check the run directory; nothing in it is touched.

    Args:
        out: the run directory.
        resume: continue what is there.
        allowed: names that may already stand in a new run's directory.

    Raises:
        FileExistsError: `out` holds files and `resume` is false.
        FileNotFoundError: `resume` is true and `out` is missing or empty.
        NotADirectoryError, PermissionError: `out` cannot be made or written.
    """
    if out.exists() and not out.is_dir():
        raise FileExistsError(f"{out}: is a file; give a folder for the run")
    there = next(folder for folder in (out, *out.absolute().parents) if folder.exists())
    if not there.is_dir():
        raise NotADirectoryError(f"{out}: cannot be made, {there} is a file; give another folder for the run")
    if not os.access(there, os.W_OK | os.X_OK):
        raise PermissionError(f"{out}: cannot be written, {there} is not yours; give another folder for the run")
    names = sorted(path.name for path in out.iterdir() if _is_of_use(path)) if out.exists() else []
    if resume and not names:
        raise FileNotFoundError(f"{out}: nothing to resume; start the run without resume")
    if not resume and set(names) - set(allowed):
        raise FileExistsError(f"{out}: already holds {', '.join(names[:5])}; resume it or choose another folder")


def _is_of_use(path: Path) -> bool:
    """Whether a file or folder is more than a lock or leftovers of ours, or a folder of nothing else."""
    return not is_own(path.name) and (not path.is_dir() or any(not is_own(inside.name) for inside in path.iterdir()))

"""A JSONL log that survives kill -9 and continues exactly after a resume.

One JSON object per line, each with an integer `step`; a line is flushed as a whole, so at worst the last one is cut.
`rewind` drops a cut line and all lines after a step, which is what a run resumed from that step will write again.
"""

import errno
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mote.files.writing import write_atomic, writing


def read_log(path: Path) -> list[dict[str, Any]]:
    """Records of the log at `path` in order; a cut last line is left out; no file gives no records.

    Raises:
        ValueError: naming path:line where a line that is not the last is no JSON object.
    """
    if not path.exists():
        return []
    text = path.read_text(encoding="utf-8", errors="replace")
    complete = text[: text.rfind("\n") + 1]
    records = []
    for number, line in enumerate(complete.splitlines(), start=1):
        try:
            record = json.loads(line)
        except json.JSONDecodeError as error:
            raise ValueError(f"{path}:{number}: not a JSON object ({error}); remove the line") from error
        records.append(record)
    return records


def rewind(path: Path, step: int, evaluated: bool = True) -> None:
    """Keep the records with `step` at most the given one; the file is replaced in one piece.

    Not `evaluated`: the evaluation of that step is left out too.
    """
    kept = [r for r in read_log(path) if r["step"] < step or (r["step"] == step and (evaluated or "loss" in r))]
    write_atomic(path, "".join(json.dumps(record) + "\n" for record in kept))


class JsonlWriter:
    """Appends records to a file, one flushed line each; use as a context manager."""

    def __init__(self, path: Path):
        self.path, self.file = path, path.open("ab", buffering=0)

    def write(self, record: Mapping[str, object]) -> None:
        """Append one record.

        Raises ValueError for a number that JSON cannot hold (NaN, infinity), OSError where the disk is full.
        """
        line = (json.dumps(record, allow_nan=False) + "\n").encode()
        with writing(self.path):
            if self.file.write(line) < len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def __enter__(self) -> "JsonlWriter":
        return self

    def __exit__(self, *exception: object) -> None:
        self.file.close()

"""A folder of predictions: what decides its numbers, the inputs that are asked for, and what is done of them.

Any number of processes write into one folder, each its own files. `settings.json` is written once, before anything
else, by whoever is first; everybody compares with it. A list of inputs is written by every process that knows inputs
which no list has, under the hash of its bytes: equal commands write equal files.
"""

import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mote.files.names import name_difference
from mote.files.temporary import is_own
from mote.files.writing import to_json, write_first
from mote.prediction.arrow import pa, pc
from mote.prediction.parts import (
    FORMAT,
    PartError,
    Plan,
    as_text,
    from_text,
    part_files,
    read_hashed,
    read_part,
    write_hashed,
)

SETTINGS = "settings.json"
MAKERS = {"predictions": "mote predict", "features": "mote encode"}  # what a folder holds -> the verb
INPUTS = re.compile(r"inputs-\d{5}-[0-9a-f]{32}\.parquet")
FOLDER = b"folder"  # metadata of a list: from `out` to the folder where relative names start
SAID = 5  # differences named in a message


class OtherSettingsError(ValueError):
    """A folder that holds predictions of another model, other class names or other settings."""


class Finished(NamedTuple):
    """Inputs (texts, see `as_text`) that have a result, and those that have only failed; may name one several times."""

    done: pa.Array
    failed: pa.Array


def open_folder(out: Path, plan: Plan) -> None:
    """Make `out` a folder of these predictions, or see that it is one.

    Raises:
        FileExistsError, NotADirectoryError: it holds something else.
        OtherSettingsError: it holds predictions of something else; says what differs.
        WritingError: it cannot be written.
    """
    file = out / SETTINGS
    if out.exists() and not out.is_dir():
        raise NotADirectoryError(f"{out}: is a file; choose a folder for the {plan.holds}")
    if not file.exists():
        inside = [] if not out.exists() else [name for name in os.listdir(out) if not is_own(name)]
        if inside and not file.exists():  # it may have come meanwhile
            what = f"has no {SETTINGS}, so it is no folder of {plan.holds} (it holds {sorted(inside)[0]})"
            raise FileExistsError(f"{out}: {what}; choose a new or an empty folder")
        write_first(file, to_json({**plan.document, **plan.notes}))
    then = read_document(file, plan.format, plan.holds)
    then = {key: value for key, value in then.items() if key not in plan.notes}
    if different := differences(then, plan.document):
        more = f" and {len(different) - SAID} more" if len(different) > SAID else ""
        said = "; ".join(different[:SAID]) + more
        raise OtherSettingsError(f"{out}: holds {plan.holds} of other settings: {said}; choose another folder")


def stored_plan(out: Path) -> Plan:
    """The plan of a folder of predictions; raises PartError where it is none, or is damaged."""
    document = read_document(out / SETTINGS)
    try:
        plan = Plan(document["settings"], document["class_names"], document["top"], document["timed"])
        if plan.document == document:
            return plan
    except (KeyError, TypeError, ValueError):
        pass
    raise PartError(f"{out / SETTINGS}: damaged; write it anew by running the same command with another folder")


def read_document(file: Path, format: str = FORMAT, holds: str = "predictions") -> dict[str, Any]:
    """What a settings.json says; raises PartError where it is not there, damaged, or of a folder of something else."""
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        lacking = f"no folder of {holds} (no {SETTINGS}); {MAKERS[holds]} --out makes one"
        raise PartError(f"{file.parent}: {lacking}") from None
    except (OSError, ValueError) as error:
        raise PartError(f"{file}: damaged or not readable ({error}); choose another folder") from error
    if not isinstance(document, dict) or document.get("format") != format:
        raise PartError(f"{file}: not the settings of {holds}; choose another folder")
    return document


def differences(then: object, now: object, where: str = "") -> list[str]:
    """What differs between two documents of plain values, each as `NAME was THIS, now THAT`."""
    if then == now:
        return []
    if isinstance(then, Mapping) and isinstance(now, Mapping):
        keys = [*then, *(key for key in now if key not in then)]
        below = {"settings": ""}.get(where, f"{where}." if where else "")
        return [said for key in keys for said in differences(then.get(key), now.get(key), f"{below}{key}")]
    if (
        where == "class_names"
        and isinstance(then, list)
        and isinstance(now, list)
        and (said := name_difference(then, now))
    ):
        return [said]
    return [f"{where} was {_short(then)}, now {_short(now)}"]


def _short(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    if isinstance(value, str) and re.fullmatch(r"[0-9a-f]{64}", value):
        return f"{value[:12]}..."
    return text if len(text) <= 60 else f"{text[:57]}..."


def record_inputs(out: Path, names: Sequence[str], texts: pa.Array) -> None:
    """Write down those of the inputs that no list in `out` has yet; `texts` are the names as `as_text` makes them.

    Raises:
        ValueError: relative names, which stand for other files than the same names in `out` do.
        PartError: a damaged list.
        WritingError: the list cannot be written.
    """
    relative = any(not os.path.isabs(name) and "://" not in name for name in names)
    here = as_text(os.path.relpath(os.path.realpath("."), os.path.realpath(out))) if relative else None
    files = list_files(out)
    lists = [read_list(file) for file in files]
    for then in ((table.schema.metadata or {}).get(FOLDER, b"").decode() for table in lists):
        if relative and then not in ("", here):
            place = os.path.normpath(out / from_text(then))
            raise ValueError(f"{out}: the relative names in it start at {place}; run there, or give absolute paths")
    new = texts.filter(pc.invert(pc.is_in(texts, value_set=_joined(lists))))
    if len(new):
        schema = pa.schema([("path", pa.string())], metadata={FOLDER: here} if relative else None)
        write_hashed(out, f"inputs-{len(files):05d}", pa.table([new], schema=schema))


def list_files(out: Path) -> list[Path]:
    """The lists of inputs in a folder, in order."""
    return sorted(path for path in out.iterdir() if INPUTS.fullmatch(path.name))


def read_list(file: Path) -> pa.Table:
    """One list of inputs; raises PartError."""
    return read_hashed(file, pa.schema([("path", pa.string())]))


def base_folder(out: Path) -> Path:
    """Where the relative names in a folder start."""
    places = [(read_list(file).schema.metadata or {}).get(FOLDER, b"").decode() for file in list_files(out)]
    return next((Path(os.path.normpath(out / from_text(place))) for place in places if place), Path())


def recorded_inputs(out: Path) -> pa.Array:
    """All inputs that were ever asked for (texts), in order, each once."""
    return pc.unique(_joined([read_list(file) for file in list_files(out)]))


def finished(out: Path, plan: Plan) -> Finished:
    """What the parts in `out` have; raises PartError for a damaged one."""
    good, bad = [], []
    for file in part_files(out):
        table = read_part(file, plan, ["path", "error"])
        bad.append(table.filter(pc.is_valid(table["error"])))
        good.append(table.filter(pc.invert(pc.is_in(table["path"], value_set=bad[-1]["path"]))))
    done, failed = _joined(good), _joined(bad)
    return Finished(done, failed.filter(pc.invert(pc.is_in(failed, value_set=done))))


def _joined(tables: Sequence[pa.Table]) -> Any:
    return pa.chunked_array([chunk for table in tables for chunk in table["path"].chunks], pa.string())

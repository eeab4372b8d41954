"""Predictions on disk: Parquet files, each written whole and never changed, named by the hash of its bytes.

A folder of predictions holds `settings.json`, lists of inputs (`inputs-*.parquet`, see `folder`) and parts
(`part-TIME-HASH.parquet`) with all results of some inputs. A part that is there is whole, so the parts are the record
of what is done. There is no other: an input is done when a part has it. Several parts may hold the same input (two
equal commands at once); `collect` settles that.

One row per input, or per window of it in a timeline:

    path        string      the input as it was given; bytes that are no UTF-8 as \\xNN (see `as_text`)
    start, end  double      seconds; null: the whole input
    predicted   string      the answer; null: none of the classes, or no result
    names       [string]    the best names, most probable first; not there where the scores of all classes are kept
    scores      [double]    theirs; or those of all classes, in the order of settings.json; null: no result
    error       string      why there is no result; null: there is one
    provenance  string      SHA-256 of what the numbers depend on, see `Plan`
"""

import hashlib
import json
import math
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Protocol, runtime_checkable

import numpy as np

from mote.files.writing import replacing, to_json
from mote.prediction.arrow import pa, pc, pq

FORMAT = "mote predictions 1"
PART = re.compile(r"part-\d{8}T\d{12}-[0-9a-f]{32}\.parquet")
REMEDY = "remove it and run the same command again: what it held is then done anew"
REPEATED = ["names.list.element", "predicted", "name", "error", "provenance"]  # columns with few different values
_STRINGS = pa.list_(pa.field("element", pa.string()))
_DOUBLES = pa.list_(pa.field("element", pa.float64()))
_TO_ESCAPE = re.compile(r"\\(?=x[0-9a-f]{2}|u[0-9a-f]{4})|[\ud800-\udfff]")
_ESCAPED = re.compile(r"\\x([0-9a-f]{2})|\\u([0-9a-f]{4})")


class PartError(ValueError):
    """A file in a folder of predictions that is damaged or something else."""


def as_text(name: str) -> str:
    r"""Valid UTF-8 for any name, different for different names: \xNN for a byte that is none, \x5c before xNN."""
    return _TO_ESCAPE.sub(_escape, name)


def from_text(text: str) -> str:
    """The name of which `as_text` made this text."""
    return _ESCAPED.sub(_unescape, text)


def _escape(found: re.Match) -> str:
    code = ord(found[0])
    return f"\\x{code & 0xFF:02x}" if code == 0x5C or 0xDC80 <= code <= 0xDCFF else f"\\u{code:04x}"


def _unescape(found: re.Match) -> str:
    if found[2]:
        return chr(int(found[2], 16))
    return "\\" if found[1] == "5c" else chr(0xDC00 + int(found[1], 16))


@dataclass(frozen=True)
class Plan:
    """What decides the numbers of a folder of predictions, and its columns.

    Args:
        settings: whatever else the numbers depend on: hashes of the model, views, threshold, versions.
        class_names: names to choose among.
        top: how many of the best names are kept of each row; None = the scores of all.
        timed: rows are pieces of inputs, with start and end.
    """

    settings: Mapping[str, object]
    class_names: Sequence[str]
    top: int | None = None
    timed: bool = False
    format: ClassVar[str] = FORMAT
    holds: ClassVar[str] = "predictions"

    @property
    def notes(self) -> Mapping[str, object]:
        """What settings.json says besides `document`, which may differ."""
        return {}

    @cached_property
    def document(self) -> dict[str, Any]:
        """What settings.json says."""
        columns = {"top": self.top, "timed": self.timed, "class_names": list(self.class_names)}
        return json.loads(to_json({"format": FORMAT, "settings": self.settings, **columns}))

    @cached_property
    def provenance(self) -> str:
        """SHA-256 of the document: equal for rows that may stand beside one another."""
        return hashlib.sha256(json.dumps(self.document, sort_keys=True).encode()).hexdigest()

    @property
    def width(self) -> int:
        """How many scores a row has, or fewer."""
        return len(self.class_names) if self.top is None else min(self.top, len(self.class_names))

    @cached_property
    def schema(self) -> pa.Schema:
        """Columns of a part; where it has the scores of all classes, their names are metadata `class_names` (JSON)."""
        text, number = pa.string(), pa.float64()
        names = [] if self.top is None else [("names", _STRINGS)]
        columns = [("path", text), ("start", number), ("end", number), ("predicted", text), *names]
        columns += [("scores", _DOUBLES), ("error", text), ("provenance", text)]
        described = {"class_names": json.dumps(list(self.class_names))} if self.top is None else None
        return pa.schema(columns, metadata=described)

    @cached_property
    def texts(self) -> dict[str, str]:
        """The class names as `as_text` makes them."""
        return {name: as_text(name) for name in self.class_names}

    def cells(self, path: str, row: Any) -> tuple:
        """A row of a part, without the last column, of a `Prediction`; ValueError for scores that no row can hold."""
        if row.error is not None:
            names = () if self.top is None else (None,)
            return (path, row.start, row.end, None, *names, None, as_text(row.error))
        found: Mapping[str, float] = row.scores
        if self.top is None and len(found) != len(self.class_names):
            raise ValueError(f"{path}: scores of {len(found)} names, expected those of all {self.width}")
        best = self.class_names if self.top is None else list(islice(found, self.top))
        scores = [found[name] for name in best]
        if not math.isfinite(sum(scores)):
            raise ValueError(f"{path}: scores that are no numbers (nan or infinite); the model is not usable")
        names = () if self.top is None else ([self.texts[name] for name in best],)
        predicted = None if row.name is None else self.texts[row.name]
        return (path, row.start, row.end, predicted, *names, np.array(scores), None)


@runtime_checkable
class Result(Protocol):
    """A row about an input, of the kind that its `Plan` has columns for."""

    @property
    def path(self) -> str | Path:
        """The input."""
        ...

    @property
    def error(self) -> str | None:
        """Why there is nothing in the row; None: there is."""
        ...


class Pace(NamedTuple):
    """When a part is written: after so many rows, seconds or bytes of scores, whichever comes first."""

    rows: int = 20_000
    seconds: float = 60.0
    bytes: int = 2**25


PACE = Pace()


class PartWriter:
    """Takes results of whole inputs and writes them into `out`, a part at a time; `flush` writes the last."""

    def __init__(self, out: Path, plan: Plan, pace: Pace = PACE):
        self.out, self.plan, self.pace = out, plan, pace
        self._rows: list[tuple] = []  # columns as in the schema, without the last
        self._since = 0.0

    def add(self, name: str, rows: Sequence[Result]) -> None:
        """Take all rows of the input `name`; writes a part where it is time to.

        Raises:
            ValueError: scores that are no numbers, or not of all class names.
            WritingError: the part cannot be written; its rows are kept, so that `flush` may try again.
        """
        cells = [self.plan.cells(as_text(name), row) for row in rows]
        if not self._rows:
            self._since = time.monotonic()
        self._rows += cells  # all of an input or nothing, whatever interrupts
        count, pace = len(self._rows), self.pace
        full = count >= pace.rows or count * self.plan.width * 8 >= pace.bytes
        if full or time.monotonic() - self._since >= pace.seconds:
            self.flush()

    def flush(self) -> None:
        """Write what was taken since the last part, if anything."""
        if self._rows:
            types = self.plan.schema.types
            columns = [pa.array(cells, type) for cells, type in zip(zip(*self._rows, strict=True), types, strict=False)]
            columns.append(pa.repeat(self.plan.provenance, len(self._rows)))
            stem = f"part-{datetime.now(UTC):%Y%m%dT%H%M%S%f}"
            write_hashed(self.out, stem, pa.table(columns, schema=self.plan.schema))
            self._rows = []


def write_hashed(out: Path, stem: str, table: pa.Table) -> Path:
    """Write `out/STEM-HASH.parquet`, whole or not at all; HASH is of its bytes.

    Raises:
        WritingError: naming the file and the cause.
    """
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd", use_dictionary=REPEATED, write_page_checksum=True)
    content = sink.getvalue()
    path = out / f"{stem}-{content_hash(content)}.parquet"
    with replacing(path) as temporary:
        temporary.write_bytes(content)
    return path


def content_hash(content: Any) -> str:
    """32 hexadecimal digits (BLAKE2b) for the bytes of a file."""
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def part_files(out: Path) -> list[Path]:
    """The parts in a folder, oldest first."""
    return sorted(path for path in out.iterdir() if PART.fullmatch(path.name))


def read_part(path: Path, plan: Plan, columns: Sequence[str] | None = None) -> pa.Table:
    """The table in a part, or some of its columns.

    Raises:
        PartError: it is damaged, or of other predictions; see `read_hashed`.
    """
    table = read_hashed(path, plan.schema, columns and [*columns, "provenance"])
    if not pc.all(pc.equal(table["provenance"], plan.provenance)).as_py():
        raise PartError(f"{path}: of predictions with other settings; remove it")
    return table if columns is None else table.select(columns)


def read_hashed(path: Path, schema: pa.Schema, columns: Sequence[str] | None = None) -> pa.Table:
    """The table in a file of `write_hashed`; of some columns only their pages are read and checked, not the whole file.

    Raises:
        PartError: it is damaged, or has other columns than `schema`.
    """
    try:
        with open(path, "rb") as file:
            source = file if columns is not None else pa.BufferReader(_whole(path, file.read()))
            parquet = pq.ParquetFile(source, page_checksum_verification=True)
            if not parquet.schema_arrow.equals(schema):
                raise PartError(f"{path}: its columns are not those of these predictions; {REMEDY}")
            # Its threads would abort a process that ends at once ("terminate called", 1 in 90 of three side by side).
            return parquet.read(columns, use_threads=False).combine_chunks()
    except (pa.ArrowException, OSError) as error:
        why = (str(error).splitlines() or [type(error).__name__])[0]
        raise PartError(f"{path}: damaged ({why.rstrip('.')}); {REMEDY}") from error


def _whole(path: Path, content: bytes) -> bytes:
    if content_hash(content) != path.stem[-32:]:
        raise PartError(f"{path}: damaged (these are not the bytes that its name is the hash of); {REMEDY}")
    return content

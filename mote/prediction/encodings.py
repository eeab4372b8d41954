"""Features on disk: a folder of Parquet parts as `parts` and `folder` write it, whose rows hold features.

    path        string              the input as it was given, see `parts.as_text`
    start, end  double              seconds from the first frame: a window, or while a frame is shown; null: the whole
    frame       int64               number of the frame, from 0; null: features of more than one
    features    float32[D]          of length 1 (L2); null: there are none
    error       string              why there are none; null: there are some
    provenance  string              SHA-256 of what the features depend on

`text.parquet` beside the parts holds features of names: name, features. They are of length 1 too, so an inner product
is a cosine. The columns `features` are fixed-size lists, which every reader of Parquet understands.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float32

from mote.files.names import name_difference
from mote.files.writing import replacing, to_json
from mote.prediction.arrow import pa, pq
from mote.prediction.folder import SETTINGS, read_document
from mote.prediction.parts import PartError, Plan, as_text
from mote.prediction.windows import Level

FORMAT = "mote features 1"
TEXT = "text.parquet"
UNIT = "each row is of length 1 (L2), so that inner products are cosines"


@dataclass(frozen=True, eq=False)
class Encoded:
    """Features of an input or of a piece of it, (D,) of length 1, or why there are none; times in seconds."""

    path: str | Path
    features: Float32[np.ndarray, "D"] | None
    error: str | None = None
    start: float | None = None
    end: float | None = None
    frame: int | None = None


@dataclass(frozen=True)
class FeaturePlan(Plan):
    """What decides the features in a folder.

    Args:
        settings: what they depend on: hashes, recipe, views, versions.
        class_names: none.
        level: what a row is about.
        dim: D.
        source: where the model lies; it may be moved, and is not compared.
    """

    class_names: Sequence[str] = ()
    level: Level = "video"
    dim: int = 1
    source: Mapping[str, str | None] = field(default_factory=dict)
    timed: bool = True  # several rows of an input
    format: ClassVar[str] = FORMAT
    holds: ClassVar[str] = "features"

    @property
    def notes(self) -> Mapping[str, object]:
        """Where the model lies."""
        return {"source": dict(self.source)}

    @cached_property
    def document(self) -> dict[str, Any]:
        """What settings.json says."""
        return json.loads(
            to_json({"format": FORMAT, "settings": self.settings, "level": self.level, "dim": self.dim, "length": UNIT})
        )

    @property
    def width(self) -> int:
        """Room that the features of a row take, in numbers of 8 bytes."""
        return -(-self.dim // 2)

    @cached_property
    def schema(self) -> pa.Schema:
        """Columns of a part; its metadata says what the features are: `level`, `length`, `settings` (JSON)."""
        text, number = pa.string(), pa.float64()
        columns = [("path", text), ("start", number), ("end", number), ("frame", pa.int64())]
        columns += [("features", vectors(self.dim)), ("error", text), ("provenance", text)]
        described = {"level": self.level, "length": UNIT, "settings": json.dumps(self.document["settings"])}
        return pa.schema(columns, metadata=described)

    def cells(self, path: str, row: Any) -> tuple:
        """A row of a part, without the last column; raises ValueError for features that are no numbers."""
        if row.error is not None:
            return (path, row.start, row.end, row.frame, None, as_text(row.error))
        if not np.isfinite(row.features).all():
            raise ValueError(f"{path}: features that are no numbers (nan or infinite); the model is not usable")
        return (path, row.start, row.end, row.frame, row.features, None)


def vectors(dim: int) -> pa.DataType:
    """The type of a column of features."""
    return pa.list_(pa.field("element", pa.float32()), dim)


def stored_features(out: Path) -> FeaturePlan:
    """The plan of a folder of features; raises PartError where it is none, or is damaged."""
    document = read_document(out / SETTINGS, FORMAT, "features")
    try:
        source = document.pop("source")
        plan = FeaturePlan(document["settings"], level=document["level"], dim=document["dim"], source=source)
        if plan.document == document and isinstance(source, dict):
            return plan
    except (KeyError, TypeError, ValueError):
        pass
    raise PartError(f"{out / SETTINGS}: damaged; write it anew by running the same command with another folder")


def matrix(table: pa.Table) -> Float32[np.ndarray, "N D"]:
    """The features of a table whose rows all have some."""
    column = table["features"]
    if not len(table):
        return np.zeros((0, column.type.list_size), np.float32)
    return column.combine_chunks().flatten().to_numpy().reshape(len(table), -1)


def write_text(
    out: Path, names: Sequence[str], features: Float32[np.ndarray, "K D"], facts: Mapping[str, object]
) -> None:
    """Write `text.parquet` into a folder of features; its metadata says `facts` (JSON). Raises WritingError."""
    described = {"length": UNIT, "facts": json.dumps(facts)}
    schema = pa.schema([("name", pa.string()), ("features", vectors(features.shape[1]))], metadata=described)
    rows = pa.FixedSizeListArray.from_arrays(pa.array(features.ravel(), pa.float32()), type=schema.field(1).type)
    table = pa.table([pa.array(list(map(as_text, names)), pa.string()), rows], schema=schema)
    with replacing(out / TEXT) as temporary:
        pq.write_table(table, temporary, compression="zstd")


def text_facts(out: Path) -> dict[str, Any]:
    """What `write_text` was told of the names in a folder; nothing where it holds none. Raises PartError."""
    file = out / TEXT
    if not file.exists():
        return {}
    try:
        return json.loads((pq.read_schema(file).metadata or {})[b"facts"])
    except (pa.ArrowException, OSError, KeyError, ValueError) as error:
        raise _damaged(file, error) from error


def has_text(out: Path, names: Sequence[str]) -> bool:
    """Whether the folder holds features of these names already.

    Raises:
        PartError: the file is damaged.
        ValueError: it holds those of other names.
    """
    file = out / TEXT
    if not file.exists():
        return False
    try:
        then = pq.read_table(file, columns=["name"], use_threads=False)["name"].to_pylist()
    except (pa.ArrowException, OSError, KeyError) as error:
        raise _damaged(file, error) from error
    if different := name_difference(then, [as_text(name) for name in names], "name"):
        raise ValueError(f"{file}: holds features of other names: {different}; remove it, or choose another folder")
    return True


def _damaged(file: Path, error: Exception) -> PartError:
    why = (str(error).splitlines() or [type(error).__name__])[0]
    return PartError(f"{file}: damaged ({why}); remove it and run mote encode again")

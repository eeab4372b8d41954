"""Rows of predictions as lines of a .csv file, column by column: a million lines take seconds.

    path[,start,end],predicted,CLASS,CLASS,...,error            the scores of all classes
    path[,start,end],predicted,top1,top1_probability,...,error  the best names

This is what `mote predict --csv` writes, byte for byte. Start and end are there where rows are windows of videos.
"""

import csv
import io
import re

import numpy as np
from jaxtyping import Float64

from mote.prediction.arrow import pa, pc
from mote.prediction.parts import Plan

NONE = "none of these"
_BYTE = re.compile(rb"\\x([0-9a-f]{2})")  # see `parts.as_text`


def header(plan: Plan) -> bytes:
    """The first line.

    Raises:
        ValueError: a class is called as another column is.
    """
    times = ["start", "end"] if plan.timed else []
    scores = plan.class_names if plan.top is None else []
    if taken := {"path", "predicted", "error", *times} & {*scores}:
        raise ValueError(f"--csv: a class is called {taken.pop()!r}, as a column of the table is; take --parquet")
    if plan.top is not None:
        scores = [name for i in range(1, plan.width + 1) for name in (f"top{i}", f"top{i}_probability")]
    text = io.StringIO()
    csv.writer(text, lineterminator=_line_end(plan)).writerow(["path", *times, "predicted", *scores, "error"])
    return text.getvalue().encode("utf-8", "surrogateescape")


def lines(table: pa.Table, plan: Plan) -> memoryview:
    """The bytes of the lines of a table of one chunk, see `parts`; less than 2 GB."""
    column = {name: table[name].combine_chunks() for name in table.schema.names}
    answered = pc.fill_null(column["predicted"], NONE)
    predicted = pc.if_else(pc.is_valid(column["scores"]), answered, "")
    times = [_seconds(column[name]) for name in ("start", "end")] if plan.timed else []
    scores = [_score_cells(column["scores"], plan.width)] if plan.top is None else _best_cells(column, plan.width)
    cells = [_cell(column["path"]), *(_bytes(one) for one in times), _cell(predicted), *scores, _cell(column["error"])]
    joined = pc.binary_join_element_wise(*cells, b",", null_handling="replace", null_replacement=b"")
    whole = pc.binary_join_element_wise(joined, pa.scalar(_line_end(plan).encode()), b"")
    return _content(whole)


def _line_end(plan: Plan) -> str:
    """As `csv` writes lines, and as `csv_text` does, which writes timelines."""
    return "\n" if plan.timed else "\r\n"


def _seconds(array: pa.Array) -> pa.Array:
    return pa.array([None if value is None else f"{value:.3f}" for value in array.to_pylist()], pa.string())


def _content(array: pa.Array) -> memoryview:
    """What lies end to end in a binary array."""
    ends = np.frombuffer(array.buffers()[1], np.int32)[array.offset : array.offset + len(array) + 1]
    return memoryview(array.buffers()[2])[int(ends[0]) : int(ends[-1])]


def _bytes(array: pa.Array) -> pa.Array:
    return pc.cast(array, pa.binary())


def _cell(text: pa.Array) -> pa.Array:
    """Texts as cells: quoted where csv quotes them, and as the bytes that `as_text` was given."""
    special = pc.match_substring_regex(text, '[",\r\n]')
    if pc.any(special).as_py():
        doubled = pc.replace_substring(text, '"', '""')
        text = pc.if_else(special, pc.binary_join_element_wise('"', doubled, '"', ""), text)
    cells = _bytes(text)
    if pc.any(pc.match_substring(text, "\\x")).as_py():
        plain = [cell and _BYTE.sub(lambda found: bytes([int(found[1], 16)]), cell) for cell in cells.to_pylist()]
        cells = pa.array(plain, pa.binary())
    return cells


def _score_cells(scores: pa.Array, width: int) -> pa.Array:
    """One cell a row: `width` scores with commas between them; only commas where the scores are null."""
    there = pc.is_valid(scores).to_numpy(zero_copy_only=False)
    values = scores.flatten().to_numpy().reshape(-1, width)
    digits = np.full((len(values), width, 9), ord(","), np.uint8)
    digits[..., :8] = six_decimals(values)
    row = np.cumsum(there) - 1
    filled = _fixed(digits.reshape(len(values), 9 * width)[:, : 9 * width - 1])
    cells = pc.take(filled, pa.array(row, mask=~there))
    return pc.fill_null(cells, b"," * (width - 1))


def _best_cells(column: dict[str, pa.Array], width: int) -> list[pa.Array]:
    """Names and probabilities of the best `width`, in turn; empty where a row has fewer."""
    names, scores, cells = column["names"], column["scores"], []
    name, score = _cell(names.flatten()), _fixed(six_decimals(scores.flatten().to_numpy()))
    sizes = pc.fill_null(pc.list_value_length(names), 0).to_numpy()
    starts = np.cumsum(sizes) - sizes
    for i in range(width):
        place = pa.array(starts + i, mask=sizes <= i)
        cells += [pc.take(name, place), pc.take(score, place)]
    return cells


def _fixed(rows: np.ndarray) -> pa.Array:
    """A binary array of uint8 rows of one length."""
    ends = np.arange(len(rows) + 1, dtype=np.int32) * rows.shape[-1]
    content = pa.py_buffer(np.ascontiguousarray(rows))
    return pa.Array.from_buffers(pa.binary(), len(rows), [None, pa.py_buffer(ends), content])


def six_decimals(values: Float64[np.ndarray, "..."]) -> np.ndarray:
    """Probabilities as `f"{value:.6f}"` writes them, as uint8 (..., 8).

    Raises:
        ValueError: a value that is no probability.
    """
    if values.size and not (values.min() >= 0 and values.max() < 9.9999995):
        raise ValueError("scores that are no probabilities; take --parquet")
    scaled = values * 1e6
    whole = np.rint(scaled).astype(np.int64)
    close = np.abs(np.abs(scaled - np.floor(scaled)) - 0.5) < 1e-6  # the product is rounded: which side is it on?
    whole[close] = [int(f"{value:.6f}".replace(".", "")) for value in values[close]]
    digits = np.empty((*values.shape, 8), np.uint8)
    for place in range(7, -1, -1):
        if place == 1:
            digits[..., 1] = ord(".")
        else:
            whole, digit = np.divmod(whole, 10)
            digits[..., place] = digit + ord("0")
    return digits

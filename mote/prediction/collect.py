"""All predictions of a folder as one table, in the order of the inputs, each input exactly once: `mote collect`.

First every part is asked only for the names in it: what is missing, what failed, which rows stand for which input. Then
the rows are gathered in blocks of the output. A process works its inputs off in their order, so a block needs few parts
at a time, and memory does not grow with their number.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from mote.files.addresses import public_name
from mote.files.writing import csv_text, replacing, replacing_together
from mote.prediction.arrow import pa, pc, pq
from mote.prediction.csv_lines import header, lines
from mote.prediction.folder import recorded_inputs, stored_plan
from mote.prediction.outputs import SEGMENT_COLUMNS, segment_rows, windows_file
from mote.prediction.parts import REPEATED, Plan, as_text, from_text, part_files, read_part
from mote.prediction.timeline_parts import SEGMENTS, segment_table, timelines_in

CELLS = 2_000_000  # scores in a block of the output
ROWS = 100_000  # at most
SAID = 3  # names in a message

Sink = Callable[[pa.Table], object]


class Results(NamedTuple):
    """Results in the parts, one entry each: which input, where; several may be of one input."""

    position: np.ndarray  # of the input in the list
    part: np.ndarray
    first: np.ndarray  # row in the part
    rows: np.ndarray  # how many
    failed: np.ndarray

    def at(self, index: np.ndarray) -> "Results":
        """Those of these entries."""
        return Results(*(column[index] for column in self))


class Coverage(NamedTuple):
    """What became of the listed inputs; `unlisted` ones have results too, which are left out."""

    listed: int
    failed: int
    missing: int
    unlisted: int
    some_failed: list[str]  # the first few, with the reason
    some_missing: list[str]


def collect(
    out: Path | str,
    *,
    csv_file: Path | str | None = None,
    parquet_file: Path | str | None = None,
    inputs: Sequence[Path | str] | None = None,
) -> Coverage:
    """Write one table of the predictions in the folder `out`; without a file, only see that they are whole and agree.

    Args:
        out: see `write.write_parts`.
        csv_file, parquet_file: see `csv_lines` for the first; the second has the columns of a part. Of timelines these
            are the segments, as `outputs.segments_csv` and `timeline_parts.SEGMENTS` have them, and such a table of
            their windows stands in a second file, see `outputs.windows_file`.
        inputs: what is to be there, in order; None = all that was ever asked for. Of equal names the first counts.

    Raises:
        PartError: no such folder, or a damaged part.
        ValueError: an input with two results that differ.
        WritingError: a file cannot be written.
    """
    out = Path(out)
    plan = stored_plan(out)
    with ExitStack() as held:
        sinks = _sinks(held, plan, csv_file, parquet_file)
        own = None if inputs is None else [as_text(name) for name in dict.fromkeys(map(public_name, inputs))]
        listed = recorded_inputs(out) if own is None else pa.array(own, pa.string())
        files = part_files(out)
        results, unlisted = _results(files, plan, listed)
        chosen, places, others = _settled(results)
        some_failed: list[str] = []
        for table in _blocks(files, plan, chosen, places, others):
            for sink in sinks:
                sink(table)
            bad = table.filter(pc.is_valid(table["error"])).slice(0, SAID)
            some_failed += map(from_text, bad["error"].to_pylist())
    there = np.zeros(len(listed), bool)
    there[chosen.position] = True
    missing = listed.filter(pa.array(~there))
    names = list(map(from_text, missing.slice(0, SAID).to_pylist()))
    return Coverage(len(listed), int(chosen.failed.sum()), len(missing), unlisted, some_failed[:SAID], names)


def _sinks(held: ExitStack, plan: Plan, csv_file: Path | str | None, parquet_file: Path | str | None) -> list[Sink]:
    """What takes the blocks of the output; the files are there when `held` ends well."""
    sinks = [] if csv_file is None else _csv_sinks(held, plan, csv_file)
    return sinks if parquet_file is None else [*sinks, *_parquet_sinks(held, plan, parquet_file)]


def _csv_sinks(held: ExitStack, plan: Plan, path: Path | str) -> list[Sink]:
    first = header(plan)
    rows, segments = _opened(held, plan, path)
    rows.write(first)
    if segments is None:
        return [lambda table: rows.write(lines(table, plan))]
    segments.write(csv_text(SEGMENT_COLUMNS, ()).encode())
    return [lambda table: rows.write(lines(table, plan)), lambda table: segments.write(_segment_lines(table))]


def _parquet_sinks(held: ExitStack, plan: Plan, path: Path | str) -> list[Sink]:
    rows, segments = _opened(held, plan, path)
    write_rows = _parquet(held, rows, plan.schema)
    if segments is None:
        return [write_rows]
    write_segments = _parquet(held, segments, SEGMENTS)
    return [write_rows, lambda table: write_segments(segment_table(list(timelines_in(table))))]


def _opened(held: ExitStack, plan: Plan, path: Path | str) -> tuple[BinaryIO, BinaryIO | None]:
    """The file for the rows, and of timelines that for the segments, which then has the name."""
    path = Path(path)
    if not plan.timed:
        return held.enter_context(held.enter_context(replacing(path)).open("wb")), None
    folder = held.enter_context(replacing_together(path.parent))
    rows, segments = ((folder / file.name).open("wb") for file in (windows_file(path), path))
    return held.enter_context(rows), held.enter_context(segments)


def _parquet(held: ExitStack, file: BinaryIO, schema: pa.Schema) -> Sink:
    writer = pq.ParquetWriter(file, schema, compression="zstd", use_dictionary=REPEATED)
    return held.enter_context(writer).write_table


def _segment_lines(table: pa.Table) -> bytes:
    """The lines of the segments of a block, in which each video is whole."""
    first, *others = segment_rows(timelines_in(table))
    return csv_text(first, others).encode("utf-8", "surrogateescape")


def _results(files: Sequence[Path], plan: Plan, listed: pa.Array) -> tuple[Results, int]:
    """Every result of a listed input, and the number of other inputs that have some."""
    tables = [read_part(file, plan, ["path", "error"]) for file in files]
    paths = pa.chunked_array([chunk for table in tables for chunk in table["path"].chunks], pa.string())
    sizes = np.array([len(table) for table in tables], np.int64)
    bad = [pc.is_valid(table["error"]).to_numpy() for table in tables]
    position = pc.fill_null(pc.index_in(paths, value_set=listed), -1).to_numpy().astype(np.int64)
    part = np.repeat(np.arange(len(files)), sizes)
    row = np.arange(len(paths)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    begins = np.ones(len(paths), bool)
    if plan.timed:  # rows beside one another are of one result
        begins[1:] = (position[1:] != position[:-1]) | (part[1:] != part[:-1])
    first = np.flatnonzero(begins)
    failed = np.logical_or.reduceat(np.concatenate(bad), first) if len(first) else np.zeros(0, bool)
    rows = np.diff(np.append(first, len(paths)))
    results = Results(position[first], part[first], row[first], rows, failed)
    unlisted = pc.count_distinct(paths.filter(pa.array(position < 0))).as_py()
    return results.at(np.flatnonzero(results.position >= 0)), unlisted


def _settled(results: Results) -> tuple[Results, np.ndarray, Results]:
    """One result of each input, in order; the places in it of those that have another without an error; and those.

    One without an error counts before one with; of several errors the newest part's.
    """
    age = np.where(results.failed, -results.part, results.part)
    ordered = results.at(np.lexsort((results.first, age, results.failed, results.position)))
    is_first = np.ones(len(ordered.position), bool)
    is_first[1:] = ordered.position[1:] != ordered.position[:-1]
    other = np.flatnonzero(~is_first & ~ordered.failed)
    return ordered.at(np.flatnonzero(is_first)), (np.cumsum(is_first) - 1)[other], ordered.at(other)


def _blocks(
    files: Sequence[Path], plan: Plan, chosen: Results, places: np.ndarray, others: Results
) -> Iterator[pa.Table]:
    """The rows of the chosen results, in tables of moderate size; raises ValueError where another one differs."""
    size = int(np.clip(CELLS // max(plan.width, 1), 1, ROWS))
    block = (np.cumsum(chosen.rows) - chosen.rows) // size
    last_use = np.zeros(len(files), np.int64)
    np.maximum.at(last_use, chosen.part, block)
    np.maximum.at(last_use, others.part, block[places])
    tables: dict[int, pa.Table] = {}
    for number in np.unique(block):
        mine = chosen.at(np.flatnonzero(block == number))
        again = np.flatnonzero(block[places] == number)
        first, second = chosen.at(places[again]), others.at(again)
        for part in np.unique(np.concatenate([mine.part, second.part])).tolist():
            if part not in tables:
                tables[part] = read_part(files[part], plan)
        _check_equal(files, tables, first, second)
        yield _gathered(tables, mine)
        tables = {part: table for part, table in tables.items() if last_use[part] > number}


def _gathered(tables: dict[int, pa.Table], results: Results) -> pa.Table:
    """The rows of these results, in their order."""
    part = np.repeat(results.part, results.rows)
    row = np.arange(len(part)) + np.repeat(results.first - (np.cumsum(results.rows) - results.rows), results.rows)
    places = [np.flatnonzero(part == number) for number in np.unique(part)]
    pieces = [tables[int(part[place[0]])].take(pa.array(row[place])) for place in places]
    together = pa.concat_tables(pieces).combine_chunks()
    return together.take(pa.array(np.argsort(np.concatenate(places)))) if len(pieces) > 1 else together


def _check_equal(files: Sequence[Path], tables: dict[int, pa.Table], first: Results, second: Results) -> None:
    if not len(first.rows):
        return
    if np.array_equal(first.rows, second.rows) and _gathered(tables, first).equals(_gathered(tables, second)):
        return
    for i in range(len(first.rows)):
        a, b = (_gathered(tables, results.at(np.array([i]))) for results in (first, second))
        if not a.equals(b):
            name, one, two = from_text(a["path"][0].as_py()), files[first.part[i]], files[second.part[i]].name
            what = f"{name} has two results that differ, in {one} and {two}"
            raise ValueError(f"{what}; remove one of these files and run the same command again")

"""Nearest features by exact inner product, block by block: memory holds one part of the folder and the best so far.

Scores are float32 products of a block with all queries; those of rows that may be among the best are computed anew in
float64, each row alone. So a score does not depend on where its row lies, and equal rows are ties.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float32, Float64, Int64

from mote.prediction.arrow import pa, pc
from mote.prediction.encodings import FeaturePlan, matrix
from mote.prediction.folder import recorded_inputs
from mote.prediction.parts import from_text, part_files, read_part

ROWS = 2**15  # of a block: 64 MB for 512 numbers
PIECE = ["path", "start", "end", "frame"]  # columns that say what a row is about


class Block(NamedTuple):
    """Features of length 1, and the rank of each row, by which ties are settled; -1: the row is left out."""

    features: Float32[np.ndarray, "n D"]
    ranks: Int64[np.ndarray, "n"]


class Best(NamedTuple):
    """The best rows for a query, best first: their ranks, and their products in float64."""

    ranks: Int64[np.ndarray, "k"]
    scores: Float64[np.ndarray, "k"]


def nearest(blocks: Iterable[Block], queries: Float32[np.ndarray, "Q D"], top: int) -> list[Best]:
    """The `top` rows of the largest inner product with each query, of length 1; of equal ones those of lower rank."""
    best = [Best(np.zeros(0, np.int64), np.zeros(0)) for _ in queries]
    doubt = 4 * queries.shape[1] * 2.0**-24  # twice what two float32 products may both have lost
    for whole in blocks:
        for start in range(0, len(whole.ranks), ROWS):
            features, ranks = (column[start : start + ROWS] for column in whole)
            products = features @ queries.T
            products[ranks < 0] = -np.inf
            for q, query in enumerate(queries):
                best[q] = _better(best[q], Block(features, ranks), products[:, q], query, top, doubt)
    return best


def _better(best: Best, block: Block, products: np.ndarray, query: np.ndarray, top: int, doubt: float) -> Best:
    """The best of what was best so far and of a block, whose `products` are certain up to `doubt` / 2."""
    least = best.scores[-1] if len(best.scores) == top else -2.0
    if len(products) > top:
        least = max(least, float(np.partition(products, -top)[-top]))
    near = np.flatnonzero(products >= least - doubt)
    near = near[block.ranks[near] >= 0]
    exact = (block.features[near].astype(np.float64) * query.astype(np.float64)).sum(axis=1)
    ranks, scores = np.append(best.ranks, block.ranks[near]), np.append(best.scores, exact)
    order = np.lexsort((ranks, -scores))[:top]
    return Best(ranks[order], scores[order])


@dataclass(frozen=True, eq=False)
class Index:
    """The pieces of inputs in a folder that have features, in the order of inputs and of time, each once.

    pieces: table of PIECE, by rank. files: the parts. ranks: of the rows of each.
    """

    plan: FeaturePlan
    pieces: Any
    files: list[Path]
    ranks: list[Int64[np.ndarray, "_"]]

    def blocks(self) -> Iterator[Block]:
        """All features, read from one part after the other; raises PartError for a damaged one."""
        for file, ranks in zip(self.files, self.ranks, strict=True):
            table = read_part(file, self.plan)
            there = np.flatnonzero(pc.is_valid(table["features"]).to_numpy())
            yield Block(matrix(table.take(there)), ranks[there])


def open_index(out: Path, plan: FeaturePlan) -> Index:
    """What there is in a folder of features, without the features; raises PartError for a damaged part."""
    files = part_files(out)
    tables = [read_part(file, plan, [*PIECE, "error"]) for file in files]
    everything = pa.concat_tables(tables).combine_chunks() if tables else plan.schema.empty_table()
    position = pc.index_in(everything["path"], value_set=recorded_inputs(out)).to_numpy()
    start, end, frame = (pc.fill_null(everything[name], -1).to_numpy() for name in PIECE[1:])
    failed = pc.is_valid(everything["error"]).to_numpy()
    order = np.lexsort((frame, end, start, position, failed))
    keys = np.stack([position, start, end, frame])[:, order].astype(np.float64)
    again = np.append(False, (keys[:, 1:] == keys[:, :-1]).all(axis=0)) if len(order) else np.zeros(0, bool)
    kept = order[~again & ~failed[order]]  # two equal commands at once may both have encoded an input
    ranks = np.full(len(order), -1)
    ranks[kept] = np.arange(len(kept))
    sizes = np.cumsum([len(table) for table in tables])[:-1]
    pieces = everything.select(PIECE).take(kept)
    return Index(plan, pieces, files, np.split(ranks, sizes) if tables else [])


@dataclass(frozen=True)
class Hit:
    """A piece of an input, and its score, a cosine. start, end: seconds, None for the whole; frame: its number."""

    path: str
    start: float | None
    end: float | None
    frame: int | None
    score: float


def search(index: Index, queries: Float32[np.ndarray, "Q D"], top: int) -> list[list[Hit]]:
    """The `top` best pieces for each query, best first; ties in the order of inputs and of time."""
    found = []
    for best in nearest(index.blocks(), queries, top):
        columns = [index.pieces[name].take(best.ranks).to_pylist() for name in PIECE]
        rows = zip(*columns, best.scores.tolist(), strict=True)
        found.append([Hit(from_text(path), start, end, frame, score) for path, start, end, frame, score in rows])
    return found

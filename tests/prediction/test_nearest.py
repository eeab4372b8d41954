"""Exact search: what sorting all products gives, whatever the blocks; ties in order."""

import itertools

import numpy as np
import pytest

from mote.prediction import nearest as module
from mote.prediction.encodings import Encoded, FeaturePlan
from mote.prediction.folder import open_folder
from mote.prediction.nearest import Block, nearest, open_index, search
from mote.prediction.parts import Pace, PartWriter, part_files
from mote.prediction.write import write_parts

DIM = 8


def rows(number: int, seed: int = 0, dim: int = DIM) -> np.ndarray:
    drawn = np.random.default_rng(seed).normal(size=(number, dim)).astype(np.float32)
    return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)


def by_sorting(features: np.ndarray, query: np.ndarray, top: int) -> tuple[list[int], list[float]]:
    scores = [float(np.dot(row.astype(np.float64), query.astype(np.float64))) for row in features]
    order = sorted(range(len(scores)), key=lambda i: (-scores[i], i))[:top]
    return order, [scores[i] for i in order]


@pytest.mark.parametrize("sizes", [(1000,), (1, 0, 400, 599), (3, 997)])
@pytest.mark.parametrize("top", [1, 20, 5000])
def test_the_best_are_those_of_sorting_all(sizes, top, monkeypatch):
    monkeypatch.setattr(module, "ROWS", 64)
    features, queries = rows(1000), rows(3, seed=1)
    starts = np.cumsum([0, *sizes])
    blocks = [Block(features[a:b], np.arange(a, b)) for a, b in itertools.pairwise(starts)]
    for query, best in zip(queries, nearest(blocks, queries, top), strict=True):
        order, scores = by_sorting(features, query, top)
        assert best.ranks.tolist() == order
        np.testing.assert_allclose(best.scores, scores, atol=1e-12)


def test_equal_rows_are_ties_in_the_order_of_their_ranks_wherever_they_lie(monkeypatch):
    """The last bits of a product of matrices depend on where a row lies; with 512 numbers they do differ."""
    same, others = rows(1, seed=2, dim=512), rows(300, dim=512) * np.float32(0.1)
    features = np.concatenate([others, np.repeat(same, 37, axis=0), others[:11], same])
    ranks = np.random.default_rng(3).permutation(len(features))
    expected = sorted(ranks[[*range(300, 337), 348]].tolist())
    for size in (1, 7, 64, 1000):
        monkeypatch.setattr(module, "ROWS", size)
        (best,) = nearest([Block(features, ranks)], same, 38)
        assert best.ranks.tolist() == expected and len(set(best.scores.tolist())) == 1


def test_rows_of_rank_minus_one_are_left_out():
    features = rows(10)
    (best,) = nearest([Block(features, np.where(np.arange(10) % 2, np.arange(10), -1))], features[:1], 10)
    assert sorted(best.ranks.tolist()) == [1, 3, 5, 7, 9]


def encoded(name: str) -> list[Encoded]:
    """Features that follow from the name; videos whose number divides by 7 fail."""
    number = int(name.strip("v"))
    if number % 7 == 0:
        return [Encoded(name, None, f"{name}: no video")]
    pieces = rows(2, seed=number // 2)  # 2 and 3, 4 and 5 have the same
    return [Encoded(name, piece, None, float(i), i + 1.0) for i, piece in enumerate(pieces)]


def test_a_folder_is_searched_in_the_order_of_its_inputs_each_piece_once(tmp_path):
    names, plan = [f"v{i}" for i in range(40)], FeaturePlan({"a": 1}, level="window", dim=DIM)

    def write(some: list[str]) -> None:
        write_parts(
            lambda left: (row for name in left for row in encoded(str(name))), some, tmp_path, plan, pace=Pace(7)
        )

    write(names[10:])
    write(names)
    twice = PartWriter(tmp_path, plan)  # as another process that had begun before
    twice.add("v12", encoded("v12"))
    twice.flush()
    assert len(part_files(tmp_path)) > 5
    index = open_index(tmp_path, plan)
    inputs = [*names[10:], *names[:10]]  # in the order in which they were asked for
    pieces = [(row.path, row.start, row.features) for name in inputs for row in encoded(name) if row.error is None]
    assert list(zip(index.pieces["path"].to_pylist(), index.pieces["start"].to_pylist(), strict=True)) == [
        (path, start) for path, start, _ in pieces
    ]
    query = rows(1, seed=9)
    (hits,) = search(index, query, 30)
    order, scores = by_sorting(np.stack([features for *_, features in pieces]), query[0], 30)
    assert [(hit.path, hit.start) for hit in hits] == [pieces[i][:2] for i in order]
    np.testing.assert_allclose([hit.score for hit in hits], scores, atol=1e-12)
    (hits,) = search(index, query, 1000)
    assert len(hits) == len(pieces)
    assert {hit.score for hit in hits if hit.path == "v12"} == {hit.score for hit in hits if hit.path == "v13"}


def test_an_empty_folder_has_no_pieces(tmp_path):
    plan = FeaturePlan({}, dim=DIM)
    open_folder(tmp_path / "out", plan)
    assert len(open_index(tmp_path / "out", plan).pieces) == 0

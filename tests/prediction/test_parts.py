"""Names as texts, the rows of parts, and files that are not what their names say."""

import os

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from stand_in_predictions import NAMES, Row, plan, row

from mote.prediction.parts import Pace, PartError, PartWriter, as_text, from_text, part_files, read_part


@given(st.binary(max_size=12), st.binary(max_size=12))
def test_every_name_survives_and_stays_distinct(one, other):
    names = [os.fsdecode(one), os.fsdecode(other)]
    texts = [as_text(name) for name in names]
    assert [from_text(text) for text in texts] == names and (texts[0] == texts[1]) == (one == other)
    assert all(text.encode("utf-8") for text in texts if text)


@pytest.mark.parametrize(
    "name", ["a\\xff.mp4", "a\udcff.mp4", "\\x5cxff", "\\\\xff", "C:\\uabcd\\x", "\ud800", "\\x5\udcff"]
)
def test_names_that_look_like_escaped_ones(name):
    assert from_text(as_text(name)) == name and as_text(name).isprintable()
    assert as_text("a\udcff") == "a\\xff" != as_text("a\\xff") and as_text("plain\\name") == "plain\\name"


@pytest.mark.parametrize("top", [None, 2, 9])
def test_what_is_written_is_read(tmp_path, top):
    writer = PartWriter(tmp_path, plan(top=top))
    rows = [row(f"{i}.mp4") for i in range(30)]
    for one in rows:
        writer.add(str(one.path), [one])
    writer.flush()
    (file,) = part_files(tmp_path)
    for one, read in zip(rows, read_part(file, plan(top=top)).to_pylist(), strict=True):
        assert (read["path"], read["predicted"], read["error"]) == (one.path, one.name, one.error)
        assert read["start"] is None is read["end"] and read["provenance"] == plan(top=top).provenance
        best = None if one.error else list(one.scores.items())[:top]
        if top is None:
            assert read["scores"] == (best and [one.scores[name] for name in NAMES])
        else:
            assert read["names"] == (best and [name for name, _ in best])
            assert read["scores"] == (best and [score for _, score in best])
    assert b"class_names" in (pq.read_schema(file).metadata or {}) or top is not None


def test_a_part_is_due_after_rows_seconds_or_bytes(tmp_path):
    for number, pace in enumerate((Pace(rows=10), Pace(seconds=0), Pace(bytes=10 * 8 * len(NAMES)))):
        out = tmp_path / str(number)
        writer = PartWriter(out, plan(), pace)
        for i in range(20):
            writer.add(f"{i}", [row(f"{i}")])
        assert len(part_files(out)) == (20 if pace.seconds == 0 else 2)


def test_scores_that_are_no_numbers_or_not_of_all_classes_are_refused(tmp_path):
    writer = PartWriter(tmp_path, plan())
    for scores in (dict.fromkeys(NAMES, float("nan")), {"red star": 1.0}):
        with pytest.raises(ValueError, match=r"a\.mp4: scores"):
            writer.add("a.mp4", [Row("a.mp4", scores)])
    writer.flush()
    assert part_files(tmp_path) == []


def test_damaged_parts_are_named(tmp_path):
    writer = PartWriter(tmp_path, plan())
    for i in range(50):
        writer.add(f"{i}", [row(f"{i}")])
    writer.flush()
    (file,) = part_files(tmp_path)
    content = file.read_bytes()
    rng = np.random.default_rng(0)
    flipped = [bytearray(content) for _ in range(20)]
    for one in flipped:
        one[rng.integers(len(content))] ^= 1 << int(rng.integers(8))
    for bad in (content[:-5], content[: len(content) // 2], b"", b"something else", *map(bytes, flipped)):
        file.write_bytes(bad)
        with pytest.raises(PartError, match="damaged") as error:
            read_part(file, plan())
        assert str(file) in str(error.value) and "\n" not in str(error.value)
    for bad in (content[:-5], b"", b"something else"):
        file.write_bytes(bad)
        with pytest.raises(PartError, match="damaged"):
            read_part(file, plan(), ["path"])
    file.write_bytes(content)
    with pytest.raises(PartError, match="other settings"):
        read_part(file, plan(settings={"clips": 2}))
    with pytest.raises(PartError, match="columns"):
        read_part(file, plan(top=1))

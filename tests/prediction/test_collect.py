"""Every input once, in order; what is missing or failed is said; two results that differ are no result."""

import random
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from command_line import fails, mote
from stand_in_predictions import Row, plan, predictions_of, row

from mote.prediction import collect as collecting
from mote.prediction.collect import collect
from mote.prediction.parts import Pace, PartWriter, part_files
from mote.prediction.share import Share
from mote.prediction.write import write_parts

INPUTS = [f"{i}.mp4" for i in range(200)]


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def parts_in_disorder(out: Path, **options) -> None:
    """Many small parts of many jobs, some of them done twice."""
    for number in random.Random(0).sample(range(1, 8), 7):
        write_parts(predictions_of, INPUTS, out, plan(**options), share=Share(number, 7), pace=Pace(rows=9))
    writer = PartWriter(out, plan(**options), Pace(rows=13))
    for name in random.Random(1).sample(INPUTS, 80):
        writer.add(name, [row(name)])
    writer.flush()


@pytest.mark.parametrize("top", [None, 2])
@pytest.mark.parametrize("cells", [40, 10**6])
def test_the_table_is_that_of_one_process_whatever_the_parts(tmp_path, monkeypatch, top, cells):
    monkeypatch.setattr(collecting, "CELLS", cells)
    write_parts(predictions_of, INPUTS, "one", plan(top=top))
    parts_in_disorder(Path("many"), top=top)
    for name in ("one", "many"):
        found = collect(name, csv_file=f"{name}.csv", parquet_file=f"{name}.parquet")
        assert (found.listed, found.missing, found.unlisted) == (200, 0, 0) and found.failed == sum(
            row(name).error is not None for name in INPUTS
        )
    assert Path("one.csv").read_bytes() == Path("many.csv").read_bytes()
    assert Path("one.parquet").read_bytes() == Path("many.parquet").read_bytes()
    table = pq.read_table("one.parquet")
    assert table["path"].to_pylist() == INPUTS and table.schema.equals(plan(top=top).schema)


def test_missing_and_failed_inputs_are_named(tmp_path, capsys):
    names = ["b", "a", "x", "c"]
    rows = {"a": Row("a", {}, "a: gone"), "b": row("b1")}
    rows["b"].path = "b"
    with pytest.raises(AssertionError):  # it gives no more than two
        write_parts(lambda inputs: (rows[one] for one in inputs if one in rows), names, "out", plan())
    assert mote("collect", "out", "--csv", "all.csv") == 1
    said = capsys.readouterr()
    assert said.out == "out: 4 inputs: 1 done, 1 failed, 2 missing\n"
    assert said.err == "mote: failed: a: gone\nmote: missing: x, c; run the same command again\n"
    assert [line[:2] for line in Path("all.csv").read_text().splitlines()[1:]] == ["b,", "a,"]


def test_inputs_that_have_to_be_there(tmp_path, capsys):
    for name in ("a", "b", "c"):
        Path(f"{name}.mp4").write_bytes(b"x")
    fine = lambda inputs: (Row(one, {"x": 1.0}, name="x") for one in inputs)  # noqa: E731
    write_parts(fine, ["a.mp4", "b.mp4", "z.mp4"], "out", plan(class_names=["x"]))
    assert mote("collect", "out") == 0
    with pytest.warns(UserWarning, match=r"1 more than once among the inputs, such as b\.mp4"):
        assert mote("collect", "out", "--csv", "all.csv", "--inputs", "b.mp4", "a.mp4", "b.mp4") == 0
    said = capsys.readouterr()
    assert "out: 2 inputs: 2 done, 0 failed, 0 missing" in said.out and "1 more inputs have results" in said.err
    assert Path("all.csv").read_text().splitlines() == [
        "path,predicted,x,error",
        "b.mp4,x,1.000000,",
        "a.mp4,x,1.000000,",
    ]
    assert mote("collect", "out", "--inputs", "c.mp4", "a.mp4") == 1
    assert "missing: c.mp4" in capsys.readouterr().err


def test_two_results_that_differ_are_refused(tmp_path, capsys):
    fine = Row("a", {"x": 1.0}, name="x")
    write_parts(lambda _: iter([fine]), ["a"], "out", plan(class_names=["x"]))
    other = PartWriter(Path("out"), plan(class_names=["x"]))
    other.add("a", [Row("a", {"x": 0.5}, name="x")])
    other.flush()
    line = fails(capsys, "collect", "out", "--csv", "all.csv")
    one, two = (file.name for file in part_files(Path("out")))
    assert f"a has two results that differ, in out/{one} and {two}; remove one" in line and not Path("all.csv").exists()
    (Path("out") / two).unlink()
    assert mote("collect", "out") == 0


def test_results_of_several_rows_that_differ_in_number(tmp_path):
    timed = plan(class_names=["x"], timed=True)
    for count in (2, 3):
        writer = PartWriter(Path("out"), timed)
        writer.add("a", [Row("a", {"x": 1.0}, None, "x", float(i), i + 1.0) for i in range(count)])
        writer.flush()
    write_parts(lambda _: iter([Row("a", {"x": 1.0})]), ["a"], "new", timed)
    shutil.copy("new/settings.json", "out")
    shutil.copy(next(Path("new").glob("inputs-*")), "out")
    with pytest.raises(ValueError, match="two results that differ"):
        collect("out")


def test_what_is_no_folder_of_predictions_or_damaged_is_one_line(tmp_path, capsys):
    assert "no folder of predictions" in fails(capsys, "collect", "nothing")
    write_parts(predictions_of, INPUTS, "out", plan(), pace=Pace(rows=50))
    file = part_files(Path("out"))[1]
    content = file.read_bytes()
    for bad in (content[:100], b"", bytes([*content[:40], content[40] ^ 1, *content[41:]])):
        file.write_bytes(bad)
        assert f"{file}: damaged" in fails(capsys, "collect", "out", "--csv", "all.csv")
        assert not Path("all.csv").exists()
    file.unlink()
    assert mote("collect", "out") == 1 and "50 missing" in capsys.readouterr().out
    assert write_parts(predictions_of, INPUTS, "out", plan()).now == 50
    assert collect("out").missing == 0
    assert "cannot be written" in fails(capsys, "collect", "out", "--csv", "out/settings.json/x.csv")


def test_a_part_of_other_predictions(tmp_path, capsys):
    for name, clips in (("out", 1), ("other", 2)):
        write_parts(predictions_of, INPUTS[:5], name, plan(settings={"clips": clips}))
    shutil.copy(part_files(Path("other"))[0], "out")
    assert "of predictions with other settings" in fails(capsys, "collect", "out")


def test_parts_of_two_folders_are_put_together_by_copying(tmp_path):
    for number in (1, 2):
        write_parts(predictions_of, INPUTS, f"out{number}", plan(), share=Share(number, 2))
    for file in part_files(Path("out2")):
        shutil.copy(file, "out1")
    assert collect("out1").missing == 0

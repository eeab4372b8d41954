"""Only what is missing is predicted, whoever asks: again, in shares, killed, or twice at once."""

import itertools
import os
import random
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pytest
import stand_in_predictions
from stand_in_predictions import KINDS, Row, plan, predictions_of, row

from mote.files.temporary import is_own, remove_leftovers
from mote.files.writing import WritingError
from mote.prediction.collect import collect
from mote.prediction.folder import open_folder, record_inputs
from mote.prediction.outputs import windows_file
from mote.prediction.parts import Pace, part_files, read_part
from mote.prediction.share import Share, parse_share
from mote.prediction.write import Outcome, write_parts

INPUTS = [f"videos/{i}.mp4" for i in range(100)]
FAILING = [name for name in INPUTS if row(name).error]


def written(out: Path, inputs=INPUTS, **options) -> tuple[Outcome, list[str]]:
    """What `write_parts` returns, and the inputs that were predicted."""
    asked: list[str] = []

    def watched(inputs):
        for one in predictions_of(inputs):
            asked.append(str(one.path))
            yield one

    return write_parts(watched, inputs, out, options.pop("plan", plan()), **options), asked


def collected(out: Path, **options) -> bytes:
    file = out.parent / f"{out.name}.csv"
    collect(out, csv_file=file, **options)
    windows = windows_file(file)
    return file.read_bytes() + (b"\n" + windows.read_bytes() if windows.exists() else b"")


def test_the_same_command_again_does_only_what_is_missing(tmp_path):
    out = tmp_path / "out"

    class Stop(Exception):
        pass

    def broken(inputs):
        yield from predictions_of(inputs[:37])
        raise Stop

    with pytest.raises(Stop):
        write_parts(broken, INPUTS, out, plan(), pace=Pace(rows=10))
    assert len(part_files(out)) == 4  # what was whole is written
    assert written(out) == (Outcome(100, 100, 63, len(FAILING)), INPUTS[37:])
    before = sorted(out.iterdir())
    assert written(out) == (Outcome(100, 100, 0, len(FAILING)), []) and sorted(out.iterdir()) == before
    outcome, asked = written(out, retry_failed=True)
    assert asked == FAILING and outcome.failed == len(FAILING) == 8
    written(tmp_path / "one")
    assert collected(out) == collected(tmp_path / "one")


def test_a_retried_input_has_its_new_result_and_of_two_errors_the_newer(tmp_path):
    out, inputs = tmp_path / "out", ["a", "b"]
    plan_ = plan(class_names=["x"])

    def run(*rows: Row, **options) -> Outcome:
        return write_parts(lambda inputs: iter(rows), inputs, out, plan_, **options)

    assert run(Row("a", {}, "first"), Row("b", {}, "first")).failed == 2
    assert run(Row("a", {"x": 1.0}, name="x"), Row("b", {}, "second"), retry_failed=True).failed == 1
    assert run().failed == 1
    assert collected(out) == b"path,predicted,x,error\r\na,x,1.000000,\r\nb,,,second\r\n"
    assert run(Row("b", {"x": 0.5}, name="x"), retry_failed=True).failed == 0


def test_shares_cover_every_input_once_and_other_numbers_of_jobs_go_on(tmp_path):
    names = [f"{i}" for i in range(3000)]
    for jobs, processes in ((1, 1), (3, 1), (1, 2), (4, 3)):
        shares = [Share(i + 1, jobs, p, processes) for i in range(jobs) for p in range(processes)]
        takers = Counter(name for share in shares for name in names if share.takes(name))
        assert set(takers) == set(names) and set(takers.values()) == {1}
        sizes = [sum(map(share.takes, names)) for share in shares]
        assert min(sizes) > 0.7 * len(names) / len(shares)
    assert Share(2, 3).takes("a.mp4") and not Share(1, 3).takes("a.mp4")  # the same on every machine and for ever
    out = tmp_path / "out"
    asked = [name for i in (1, 3) for name in written(out, share=parse_share(f"{i}/3"))[1]]
    asked += [name for i in range(1, 6) for name in written(out, share=Share(i, 5))[1]]
    assert sorted(asked) == sorted(INPUTS)
    written(tmp_path / "one")
    assert collected(out) == collected(tmp_path / "one")


@pytest.mark.parametrize("text", ["0/4", "5/4", "1", "a/b", "1/0", "-1/4", "1/4/2", ""])
def test_parts_that_are_none(text):
    with pytest.raises(ValueError, match="expected i/n"):
        parse_share(text)


def test_inputs_listed_twice_are_done_once_and_paths_arrive_as_they_were_given(tmp_path):
    given: list = []
    write_parts(lambda inputs: given.extend(inputs) or predictions_of(inputs), [Path("a"), "b", "a"], tmp_path, plan())
    assert given == [Path("a"), "b"]


def test_names_of_any_bytes(tmp_path):
    names = [os.fsdecode(b"\xff.mp4"), "\\xff.mp4", os.fsdecode(b"\xfe.mp4"), "a\nb.mp4", 'c"d,e.mp4', "ü"]
    assert written(tmp_path / "out", names)[1] == names and written(tmp_path / "out", names)[1] == []
    written(tmp_path / "two", names, share=Share(1, 2))
    written(tmp_path / "two", names, share=Share(2, 2))
    assert collected(tmp_path / "out") == collected(tmp_path / "two")


def test_an_input_of_many_rows_is_whole_or_not_there(tmp_path):
    def windows(inputs):
        for number, one in enumerate(inputs):
            for i in range(number + 1):
                if (number, i) == (3, 2):
                    raise KeyboardInterrupt
                yield Row(one, {"x": 1.0}, None, "x", float(i), i + 2.0)

    timed = plan(class_names=["x"], timed=True)
    with pytest.raises(KeyboardInterrupt):
        write_parts(windows, list("abcde"), tmp_path, timed, pace=Pace(rows=2))
    assert collect(tmp_path).missing == 2
    again = lambda inputs: (Row(one, {"x": 1.0}, None, "x", 0.0, 2.0) for one in inputs)  # noqa: E731
    assert write_parts(again, list("abcde"), tmp_path, timed).now == 2
    segments, windows = collected(tmp_path).decode().split("\n\n")
    lines = windows.splitlines()
    assert lines[:3] == ["path,start,end,predicted,x,error", "a,0.000,2.000,x,1.000000,", "b,0.000,2.000,x,1.000000,"]
    assert [line[0] for line in lines[1:]] == list("abbcccde")
    assert segments.splitlines()[1:4] == [
        f"{name},0.000,{end}.000,x,1.000000," for name, end in zip("abc", (2, 3, 4), strict=True)
    ]


def test_all_rows_of_an_input_are_written_before_the_next_one_is_worked_on(tmp_path):
    def windows(inputs):
        for one in inputs:
            if one == "b":
                assert collect(tmp_path / "out").missing == 1  # as after a kill here
            yield from (Row(one, {"x": 1.0}, None, "x", float(i), i + 2.0) for i in range(3))
            yield None

    timed = plan(class_names=["x"], timed=True)
    assert write_parts(windows, ["a", "b"], tmp_path / "out", timed, pace=Pace(rows=1)).now == 2
    assert len(part_files(tmp_path / "out")) == 2 and collect(tmp_path / "out").missing == 0


def test_nothing_is_predicted_where_nothing_can_be_written(tmp_path, monkeypatch):
    written(tmp_path / "out", INPUTS[:3])
    record_inputs(tmp_path / "out", INPUTS[:4], pa.array(INPUTS[:4]))

    def read_only(self, *_, **__):
        raise OSError(30, "Read-only file system", str(self))

    monkeypatch.setattr(Path, "touch", read_only)
    with pytest.raises(WritingError, match=r"out: cannot be written: Read-only file system"):
        write_parts(lambda _: pytest.fail("asked"), INPUTS[:4], tmp_path / "out", plan())
    assert written(tmp_path / "out", INPUTS[:3]) == (Outcome(3, 3, 0, 0), [])  # nothing is missing


def test_a_disk_that_becomes_full_leaves_what_is_whole(tmp_path, monkeypatch):
    real, left = Path.write_bytes, [3]  # one list of inputs, two parts

    def small_disk(self, content):
        left[0] -= 1
        if left[0] < 0:
            real(self, bytes(content)[:100])
            raise OSError(28, "No space left on device", str(self))
        return real(self, content)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", small_disk)
        with pytest.raises(WritingError, match=r"part-.*cannot be written: No space left on device; what") as error:
            open_folder(tmp_path / "out", plan())
            left[0] = 3
            written(tmp_path / "out", pace=Pace(rows=10))
    assert "\n" not in str(error.value) and len(part_files(tmp_path / "out")) == 2
    assert not [path for path in (tmp_path / "out").iterdir() if is_own(path.name)]
    assert written(tmp_path / "out")[1] == INPUTS[20:]


SCRIPT = Path(stand_in_predictions.__file__)


def started(out: Path, listed: Path, part: str, seconds: float, kind: str = "clips") -> subprocess.Popen:
    command = [sys.executable, SCRIPT, out, listed, part, seconds, kind]
    environment = os.environ | {"PYTHONPATH": str(SCRIPT.parents[1])}
    with (out.parent / "errors.txt").open("ab") as errors:
        return subprocess.Popen([*map(str, command)], env=environment, cwd=out.parent, stderr=errors)


def killed_at_random(
    tmp_path: Path, count: int, processes: int, kills: int, seconds: float, kind: str = "clips"
) -> None:
    """So many kills over so many processes, then all to their ends: the table is that of one undisturbed process."""
    names = [f"{i}\udcff.mp4" if i % 50 == 0 else f"{i}.mp4" for i in range(count)]
    (tmp_path / "list.txt").write_text("".join(f"{n}\n" for n in names), encoding="utf-8", errors="surrogateescape")
    os.chdir(tmp_path)  # where the relative names of the processes start
    rows_of, plan_ = KINDS[kind]
    write_parts(rows_of, names, tmp_path / "one", plan_)
    out, rng, done = tmp_path / "out", random.Random(processes), 0
    shares = [f"{i + 1}/{processes}" for i in range(processes)]
    running: dict[str, subprocess.Popen] = {}
    while done < kills:
        running |= {p: started(out, tmp_path / "list.txt", p, seconds, kind) for p in shares if p not in running}
        time.sleep(rng.uniform(0, 1.5) / processes)
        part = rng.choice(shares)
        running[part].kill()
        done += running[part].wait() == -9  # one that had ended was not killed
        del running[part]
    for part in shares:
        process = running.get(part) or started(out, tmp_path / "list.txt", part, seconds, kind)
        assert process.wait(timeout=300) in (0, -9), (tmp_path / "errors.txt").read_text()
        again = started(out, tmp_path / "list.txt", part, 0, kind)
        assert again.wait(timeout=300) == 0, (tmp_path / "errors.txt").read_text()
    parts = [read_part(file, plan_, ["path"])["path"].to_pylist() for file in part_files(out)]
    rows = [name for part in parts for name, _ in itertools.groupby(part)]
    assert len(rows) == len(set(rows)) == count  # nothing twice even before it is collected
    assert collected(out) == collected(tmp_path / "one")
    remove_leftovers(out)  # as the next that writes there does
    assert not [path for path in out.iterdir() if is_own(path.name)]


def test_killed_a_few_times(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    killed_at_random(tmp_path, 100, processes=2, kills=3, seconds=0.001)


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2, 16])
def test_killed_a_hundred_times(tmp_path, monkeypatch, processes):
    monkeypatch.chdir(tmp_path)
    killed_at_random(tmp_path, 4000, processes, kills=100, seconds=0.01)


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_timelines_killed_several_times(tmp_path, monkeypatch, processes):
    monkeypatch.chdir(tmp_path)
    killed_at_random(tmp_path, 400, processes, kills=10, seconds=0.01, kind="timelines")


@pytest.mark.slow
def test_two_equal_commands_at_once(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "list.txt").write_text("".join(f"{i}\n" for i in range(40)))
    pair = [started(tmp_path / "out", tmp_path / "list.txt", "1/1", 0.02) for _ in range(2)]
    assert [process.wait(timeout=300) for process in pair] == [0, 0], (tmp_path / "errors.txt").read_text()
    written(tmp_path / "one", [str(i) for i in range(40)])
    assert collected(tmp_path / "out") == collected(tmp_path / "one")

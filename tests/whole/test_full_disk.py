"""The real commands on a full disk, killed, and two at once: one line, nothing torn, nothing of the user's gone.

The disk is a small tmpfs; without the right to mount one these tests are left out (`tests/files/test_writing.py` limits
the size of files instead, which several small files never reach).
"""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mote.files.temporary import is_own

pytestmark = pytest.mark.slow
COUNTS = {"calm": 12, "happy": 8, "sad": 4}
QUICK = ["task=expression", "image.net=resnet8", "data.size=12", "data.workers=0", "image.channels=1", "run.cpu=true"]
QUICK += ["optim.epochs=2", "optim.warmup_epochs=0", "optim.batch_size=8"]


def mote(*arguments: str | Path, code: int = 0) -> str:
    """Standard output of a command that ends with `code`; of one that fails its only line of error."""
    command = [sys.executable, "-m", "mote", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == code, done.stderr[-2000:]
    assert "Traceback" not in done.stderr and "terminate called" not in done.stderr, done.stderr[-2000:]
    if code == 0:
        return done.stdout + done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("mote: error: ")]
    return line


@pytest.fixture
def disk(tmp_path) -> Iterator[Path]:
    """A disk of 4 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if os.geteuid() or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", folder]).returncode:
        pytest.skip("no right to mount a small disk")
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


def fill(disk: Path, left: int) -> Path:
    """Fill the disk up to `left` bytes."""
    ballast = disk / "ballast"
    ballast.write_bytes(bytes(max(0, shutil.disk_usage(disk).free - left)))
    return ballast


def everything(folder: Path) -> dict[str, bytes]:
    found = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    return {name: content for name, content in found.items() if name != "ballast"}


@pytest.fixture(scope="module")
def faces(tmp_path_factory) -> Path:
    """Pictures of three classes of unequal size, and their list."""
    folder, lines = tmp_path_factory.mktemp("faces"), ["path,label,split"]
    rng = np.random.default_rng(0)
    for height, (name, count) in enumerate(COUNTS.items()):
        for i in range(count + 3):
            pixels = rng.integers(0, 60, (24, 24), dtype=np.uint8)
            pixels[4 + 7 * height : 9 + 7 * height, 4:20] += 180
            Image.fromarray(pixels).save(folder / f"{name}{i}.png")
            lines.append(f"{name}{i}.png,{name},{'train' if i < count else 'test'}")
    (folder / "faces.csv").write_text("\n".join(lines) + "\n")
    return folder / "faces.csv"


def settings(faces: Path, out: Path) -> list[str]:
    where = [f"data.train={faces}", "data.split=train", f"evaluation.manifest={faces}", "evaluation.split=test"]
    return [*QUICK, *where, f"run.out={out}"]


@pytest.fixture(scope="module")
def run(faces, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "run"
    mote("train", *settings(faces, out), "imbalance.method=mek")
    return out


def test_a_result_and_its_page_stay_together(run, disk, tmp_path):
    """With ever less room: page and result are new, or the page is gone and said to be, or everything is old.

    An older page makes room for the new one, so the case between is that of a result that had none.
    """
    out, seen = disk / "out", set()
    for left, page in ((2_000_000, True), (100_000, True), (100_000, False), (20_000, True), (0, True)):
        mote("eval", run, "--out", out, f"evaluation.page={str(page).lower()}")
        before = everything(disk)
        assert mote("eval", "--verify", out / "eval.json")
        ballast = fill(disk, left)
        command = [sys.executable, "-m", "mote", "eval", str(run), "--out", str(out), "seed=1"]
        done = subprocess.run(command, capture_output=True, text=True)
        assert "Traceback" not in done.stderr
        ballast.unlink()
        result = json.loads((out / "eval.json").read_text())
        mote("eval", "--verify", out / "eval.json")
        if done.returncode:
            seen.add("old")
            assert "cannot be written: No space left on device" in done.stderr and everything(disk) == before
        elif (out / "eval/index.html").exists():
            seen.add("new")
            assert result["provenance"]["seed"] == 1 and "index.html" in done.stdout
            assert (out / "eval/index.html").read_text().rstrip().endswith("</html>")
        else:
            seen.add("no page")
            assert "could not be drawn" in done.stderr and "index.html" not in done.stdout
            assert not list((out / "eval").glob("*"))
        assert not any(is_own(path.name) for path in disk.rglob("*"))
        shutil.rmtree(out)
    assert seen == {"old", "new", "no page"}


def test_training_keeps_its_last_checkpoint_and_goes_on_later(faces, disk):
    out = disk / "run"
    (disk / "notes.txt").write_text("mine")
    mote("train", *settings(faces, out), "optim.epochs=1")
    before, ballast = everything(out / "last"), fill(disk, 40_000)
    more = ["optim.epochs=1", "--resume"]
    line = mote("train", *settings(faces, disk / "other"), "optim.epochs=1", code=2)
    assert "No space left on device" in line
    assert everything(out / "last") == before
    ballast.unlink()
    mote("train", *settings(faces, disk / "other"), *more)
    assert (disk / "notes.txt").read_text() == "mine" and not any(is_own(path.name) for path in disk.rglob("*"))


@pytest.mark.parametrize("suffix", [".safetensors", ".pt2", ".onnx"])
def test_an_export_is_whole_or_the_old_one_and_one_line(disk, suffix):
    target = disk / f"model{suffix}"
    target.write_text("an older file")
    fill(disk, 100_000)
    line = mote("export", "tiny", "--labels", "red star,blue ball", "--out", target, code=2)
    assert f"{target}: cannot be written: " in line and "No space left on device" in line
    assert line.rstrip().endswith("; what was there before is intact")
    assert target.read_text() == "an older file" and sorted(path.name for path in disk.iterdir()) == [
        "ballast", target.name,
    ]  # fmt: skip


def test_shards_are_there_or_not(faces, disk, tmp_path):
    (disk / "X.partial").mkdir()
    (disk / "X.partial/mine").touch()
    (tmp_path / "list.csv").write_text("path,label\na.mp4,x\nb.mp4,y\n")
    for name in "ab":
        (tmp_path / f"{name}.mp4").write_bytes(os.urandom(3_000_000))
    line = mote("data", "shard", tmp_path / "list.csv", "--out", disk / "X", code=2)
    assert "X: cannot be written: No space left on device" in line
    assert sorted(str(path.relative_to(disk)) for path in disk.rglob("*")) == ["X.partial", "X.partial/mine"]


def test_a_killed_evaluation_leaves_the_old_result_and_the_next_one_removes_its_files(run, tmp_path):
    mote("eval", run, "--out", tmp_path, "--no-page")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    code = (
        "import os, signal, mote.files.writing as w; real = w._sync_tree\n"
        "def kill(folder): os.kill(os.getpid(), signal.SIGKILL)\n"
        "w._sync_tree = kill\n"
        "from mote.cli import main; main()"
    )
    command = [sys.executable, "-c", code, "eval", str(run), "--out", str(tmp_path), "--no-page", "seed=1"]
    assert subprocess.run(command, capture_output=True).returncode == -signal.SIGKILL
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir() if not is_own(path.name)} == before
    assert any(is_own(path.name) for path in tmp_path.iterdir())
    mote("eval", run, "--out", tmp_path, "--no-page")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["eval.csv", "eval.json"]


def test_the_second_process_on_a_run_its_result_or_a_cache_is_refused_in_one_line(faces, tmp_path):
    run = tmp_path / "run"
    command = [sys.executable, "-m", "mote", "train", *settings(faces, run), "optim.epochs=100000"]
    first = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 300
        while not (run / "last/state.json").exists():
            assert first.poll() is None and time.monotonic() < deadline
            time.sleep(0.1)
        for more in ([], ["--resume"]):
            line = mote("train", *settings(faces, run), "optim.epochs=100000", *more, code=2)
            assert f"{run}: " in line and ("in use by process" in line or "already holds" in line)
        assert f"{run}: this run has no model yet; let it finish" in mote("eval", run, code=2)
    finally:
        first.kill()
        first.wait()
    done = json.loads((run / "last/state.json").read_text())["progress"]["step"]
    settings_ = [*settings(faces, run), "optim.epochs=100000", "--resume"]
    again = subprocess.Popen([*command[:4], *settings_], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    time.sleep(20)
    again.send_signal(signal.SIGTERM)
    _, err = again.communicate(timeout=300)
    assert again.returncode == 0, err
    assert json.loads((run / "last/state.json").read_text())["progress"]["step"] >= done
    assert not any(is_own(path.name) for path in run.rglob("*"))


def test_metrics_of_two_runs_are_compared_and_a_table_of_another_result_is_refused(run, tmp_path):
    other = Path(shutil.copytree(run, tmp_path / "other"))
    assert "b - a" in mote("compare", run / "metrics.json", other / "metrics.json")
    mote("eval", "--verify", run / "metrics.json")
    with (other / "metrics.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    rows[1][0], rows[2][0] = rows[2][0], rows[1][0]
    with (other / "metrics.csv").open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)
    line = mote("compare", run / "metrics.json", other / "metrics.json", code=2)
    assert "metrics.csv: not the table of this result" in line

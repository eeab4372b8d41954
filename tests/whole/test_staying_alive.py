"""Whole runs that are killed, stopped, and deprived of disk, files and workers."""

import json
import os
import random
import resource
import shlex
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch

from mote.cli import main
from mote.datasets.decoding.encode import write_video
from mote.datasets.synthetic.clips import render_clip

CLASSES = ("red star moving left", "blue arrow growing", "green ball bouncing")
ONE = (sys.executable, "-m", "mote", "train")
TWO = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m", "mote", "train")
QUICK = (
    "model.layers=1",
    "data.frames=2",
    "data.workers=0",
    "optim.warmup_epochs=0",
    "optim.batch_size=4",
    "run.cpu=true",
)


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> Path:
    """Twenty clips of three classes, and their lists."""
    folder = tmp_path_factory.mktemp("clips")
    for i in range(20):
        colour, shape, motion = CLASSES[i % 3].split(" ", 2)
        write_video(folder / f"{i}.mp4", render_clip(np.random.default_rng(i), f"{colour} {shape}", motion, 6))
    (folder / "list.txt").write_text("".join(f"{i}.mp4 {i % 3}\n" for i in range(20)))
    (folder / "few.txt").write_text("".join(f"{i}.mp4 {i % 3}\n" for i in range(8)))
    (folder / "classes.txt").write_text("\n".join(CLASSES) + "\n")
    return folder


def settings(clips: Path, *more: str, train: str = "list.txt") -> list[str]:
    return [f"data.train={clips / train}", f"data.classes={clips / 'classes.txt'}", *QUICK, *more]


def start(command: tuple[str, ...], *arguments: str | Path, **options) -> subprocess.Popen:
    pipe, environment = subprocess.PIPE, os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [*command, *map(str, arguments)], stdout=pipe, stderr=pipe, text=True, env=environment, **options
    )


def finish(process: subprocess.Popen, code: int = 0) -> tuple[str, str]:
    out, err = process.communicate(timeout=300)
    assert process.returncode == code, err
    return out, err


def error_line(process: subprocess.Popen) -> str:
    """The one line of a process that ends with exit code 2."""
    lines = [line for line in finish(process, 2)[1].splitlines() if "mote" in line]
    assert len(lines) == 1 and lines[0].startswith("mote: error: "), lines
    return lines[0]


def log(run: Path) -> list[dict]:
    records = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [{key: value for key, value in record.items() if key != "time"} for record in records]


def wait_for_steps(process: subprocess.Popen, run: Path, steps: int) -> None:
    deadline = time.monotonic() + 240
    while not ((run / "log.jsonl").exists() and (run / "log.jsonl").read_bytes().count(b"\n") >= steps):
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()[1]
        time.sleep(0.005)


@pytest.mark.slow
def test_asked_to_stop_a_run_ends_with_0_and_says_how_to_go_on(clips, tmp_path):
    """With a loader process, which gets the signal as well when it is sent to the whole group, as by a terminal."""
    process = start(
        ONE, *settings(clips, "optim.epochs=400", "data.workers=1", f"run.out={tmp_path / 'run'}"),
        start_new_session=True,
    )  # fmt: skip
    wait_for_steps(process, tmp_path / "run", 3)
    os.killpg(process.pid, signal.SIGINT)
    out, err = finish(process)
    step = log(tmp_path / "run")[-1]["step"]
    assert out.splitlines()[-1] == f"{tmp_path / 'run'}: stopped by SIGINT after step {step}; go on with: " + (
        f"mote train {shlex.quote(str(tmp_path / 'run'))} --resume"
    )
    assert "Traceback" not in err
    state = json.loads((tmp_path / "run" / "last" / "state.json").read_text())
    assert state["progress"]["step"] == step < 2000


def test_five_percent_bad_videos_are_skipped_and_half_of_them_stop_the_run(clips, tmp_path, capsys):
    def listed(name: str, bad: int) -> Path:
        for i in range(bad):
            (tmp_path / f"{name}{i}.mp4").write_bytes((clips / "0.mp4").read_bytes()[: 200 * i])
        good = [f"{clips / f'{i}.mp4'} {i % 3}\n" for i in range(20 - bad)]
        (tmp_path / name).write_text("".join([*good, *(f"{name}{i}.mp4 0\n" for i in range(bad))]))
        return tmp_path / name

    few, many = listed("few", 1), listed("many", 10)

    def train(videos: Path, name: str) -> tuple[int, str]:
        overrides = [
            "optim.epochs=2",
            "data.max_bad_fraction=0.05",
            f"data.train={videos}",
            f"run.out={tmp_path / name}",
        ]
        with pytest.raises(SystemExit) as end:
            main(["train", *settings(clips, *overrides)])
        return end.value.code, capsys.readouterr().err

    assert train(few, "ok")[0] == 0
    skipped = [index for record in log(tmp_path / "ok") for index in record.get("skipped", ())]
    assert skipped == [19, 19]  # once in each epoch
    assert (tmp_path / "ok" / "unreadable.txt").read_text() == f"{tmp_path / 'few0.mp4'}\tthe file is empty\n"
    code, error = train(many, "stopped")
    assert code == 2 and error.startswith("mote: error: ") and error.count("\n") == 1
    assert "undecodable clips, more than the 1 allowed by data.max_bad_fraction" in error
    names = [row.split("\t")[0] for row in (tmp_path / "stopped" / "unreadable.txt").read_text().splitlines()]
    assert str(tmp_path / "stopped" / "unreadable.txt") in error and any(name in error for name in names)
    assert len(names) >= 2 and all(Path(name).name.startswith("many") for name in names)


@pytest.mark.slow
def test_lost_videos_lost_workers_and_a_full_disk_are_one_line_each(clips, tmp_path):
    """One run, stopped and resumed under each calamity; at the end it is the uninterrupted one."""
    for i in range(8):
        (tmp_path / f"{i}.mp4").write_bytes((clips / f"{i}.mp4").read_bytes())
    (tmp_path / "few.txt").write_text((clips / "few.txt").read_text())
    run, more = tmp_path / "run", ["optim.epochs=40", "data.max_bad_fraction=0.5", "run.save_every=1"]
    common = settings(clips, *more, f"data.train={tmp_path / 'few.txt'}")
    process = start(ONE, *common, f"run.out={run}")
    wait_for_steps(process, run, 5)
    process.send_signal(signal.SIGTERM)
    finish(process)
    state = (run / "last" / "state.json").read_bytes()

    files = list(tmp_path.glob("*.mp4"))
    (tmp_path / "gone").mkdir()
    for path in files:
        path.rename(tmp_path / "gone" / path.name)
    line = error_line(start(ONE, run, "--resume"))
    assert "is the disk with the videos still there?" in line and str(tmp_path) in line
    for path in files:
        (tmp_path / "gone" / path.name).rename(path)
    assert (
        json.loads(state)["progress"]["step"]
        <= json.loads((run / "last" / "state.json").read_text())["progress"]["step"]
    )

    limit = (run / "log.jsonl").stat().st_size + 3000  # the checkpoint is larger

    def small_disk() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    state = (run / "last" / "state.json").read_bytes()
    line = error_line(start(ONE, run, "--resume", preexec_fn=small_disk))
    assert f"{run / 'last'}: cannot be written: " in line and "intact" in line
    assert (run / "last" / "state.json").read_bytes() == state

    process = start(ONE, run, "--resume", "data.workers=1")
    wait_for_steps(process, run, len(log(run)) + 3)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    os.kill(int(children[-1]), signal.SIGKILL)
    _, error = finish(process, 2)
    assert "killed by the system" in error and "data.workers" in error and len(error.splitlines()) == 1, error

    finish(start(ONE, run, "--resume"))
    finish(start(ONE, *common, f"run.out={tmp_path / 'whole'}"))
    ours, theirs = ([{k: v for k, v in r.items() if k != "skipped"} for r in log(x)] for x in (run, tmp_path / "whole"))
    assert ours == theirs


def kill(process: subprocess.Popen) -> None:
    """SIGKILL to the process and all that it started; torchrun gives its workers sessions of their own."""
    family = [process.pid]
    for pid in family:
        for file in Path(f"/proc/{pid}/task").glob("*/children"):
            family += [int(child) for child in file.read_text().split()]
    for pid in family:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.communicate()


# Overrides on top of the common ones; each must make the same run every time it is started.
VARIANTS = {
    "one process": (ONE, ()),
    "two processes": (TWO, ("optim.accumulation=2", "model.gradient_checkpointing=true")),
    "two processes, adapters": (
        TWO,
        (
            "optim.accumulation=2",
            "model.gradient_checkpointing=true",
            "tuning.vision=lora",
            "optim.backbone_lr_scale=0",
        ),
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("variant", VARIANTS)
def test_killed_twenty_times_at_random_moments_the_log_is_that_of_the_uninterrupted_run(clips, tmp_path, variant):
    """SIGKILL any time after the start, and most often some steps later; a save follows every step."""
    command, overrides = VARIANTS[variant]
    more = ["optim.epochs=150", "run.save_every=1", "run.keep=2", "evaluation.every=50", "run.select=top1", *overrides]
    common = settings(clips, *more, f"evaluation.manifest={clips / 'few.txt'}", train="few.txt")
    finish(start(command, *common, f"run.out={tmp_path / 'whole'}"))
    run, rng, begun = tmp_path / "run", random.Random(0), 5.0
    again = [*common, f"run.out={run}", "--resume"]  # the same command every time
    for number in range(20):
        have = (run / "log.jsonl").read_bytes().count(b"\n") if (run / "log.jsonl").exists() else 0
        process = start(command, *again)
        before = time.monotonic()
        if number % 4 == 0:
            time.sleep(rng.uniform(0, 1.2 * begun))
        else:
            wait_for_steps(process, run, have + 1)
            begun = time.monotonic() - before
            time.sleep(rng.uniform(0, 0.2))
        assert process.poll() is None, process.communicate()[1]
        kill(process)
    assert 0 < len(log(run)) < len(log(tmp_path / "whole"))
    finish(start(command, *again))
    assert log(run) == log(tmp_path / "whole")
    weights = [(tmp_path / name / "best" / "model.safetensors").read_bytes() for name in ("run", "whole")]
    assert weights[0] == weights[1] and (run / "metrics.json").is_file()


def together(*arguments: str | Path) -> list[subprocess.Popen]:
    """Two processes that know one another, without a launcher, which would send signals of its own."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    world = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    one = (sys.executable, "-m", "mote", "train", *map(str, arguments))
    pipe, common = subprocess.PIPE, os.environ | {"OMP_NUM_THREADS": "1"} | world
    return [
        subprocess.Popen(one, stdout=pipe, stderr=pipe, text=True, env=common | {"RANK": rank, "LOCAL_RANK": rank})
        for rank in ("0", "1")
    ]


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["start-up", "steps", "evaluation"])
@pytest.mark.parametrize("asked", [(0,), (1,), (0, 1)])
def test_whichever_processes_are_asked_to_stop_all_end_with_0_and_one_says_how_to_go_on(clips, tmp_path, moment, asked):
    run = tmp_path / "run"
    more = [f"evaluation.manifest={clips / 'few.txt'}", "evaluation.page=false", f"run.out={run}"]
    more += ["optim.epochs=1", "evaluation.clips=1000"] if moment == "evaluation" else ["optim.epochs=400"]
    processes = together(*settings(clips, *more, train="few.txt"))
    if moment == "start-up":
        wait_for_imports(processes)
    else:
        wait_for_steps(processes[0], run, 2)
        time.sleep(1)
    for number in asked:
        processes[number].send_signal(signal.SIGTERM)
    (out, error), (other, _) = [finish(process) for process in processes]
    assert "Traceback" not in error and "stopped" not in other
    again = f"start again with: mote train {' '.join(map(shlex.quote, settings(clips, *more, train='few.txt')))}"
    on = f"go on with: mote train {shlex.quote(str(run))} --resume"
    assert out.splitlines()[-1].endswith(on if (run / "config.yaml").exists() else again), out
    assert "stopped" in out.splitlines()[-1]


def wait_for_imports(processes: list[subprocess.Popen]) -> None:
    """Until the processes load torch: they listen by then."""
    deadline = time.monotonic() + 120
    while not all("libtorch" in Path(f"/proc/{process.pid}/maps").read_text() for process in processes):
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_a_process_that_died_is_named_by_the_other(clips, tmp_path, victim):
    processes = together(*settings(clips, "optim.epochs=400", f"run.out={tmp_path / 'run'}", train="few.txt"))
    wait_for_steps(processes[0], tmp_path / "run", 3)
    processes[victim].kill()
    line = error_line(processes[1 - victim])
    assert f"process {victim} (from 0) of 2 died" in line and "--resume" in line
    processes[victim].communicate()


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_launch_for_gpus_without_one_starts_nothing(clips, tmp_path):
    run = tmp_path / "run"
    processes = together(*settings(clips, "run.cpu=false", f"run.out={run}"))
    errors = [process.communicate(timeout=300)[1] for process in processes]
    assert [process.returncode for process in processes] == [2, 2] and not run.exists()
    assert "2 processes would train on their own" in errors[0] and not errors[1], errors

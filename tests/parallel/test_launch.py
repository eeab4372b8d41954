"""The launch files against accelerate's own reading of them, and what they start where there is no GPU."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from accelerate.commands import launch

from mote.cli import main
from mote.parallel.accelerator import make_accelerator
from mote.parallel.launch import LaunchError, check_outcome, check_request, is_first

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted((ROOT / "configs" / "accelerate").glob("*.yaml"))
SCRIPT = str(ROOT / "tests" / "toy_run.py")
BLOCKS = {"ResidualAttentionBlock", "ClassTokenBlock", "Block"}


def parsed(*arguments: str):
    """The arguments of `accelerate launch` with its configuration file taken in, as it hands them to its launchers."""
    arguments = launch.launch_command_parser().parse_args([*arguments, "script.py"])
    return launch._validate_launch_command(arguments)[0]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_accelerate_understands_the_file_and_the_command_in_it(file, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    command = re.search(r"^# accelerate launch (.*)$", file.read_text(), re.MULTILINE)
    assert command is not None
    given = command[1].replace("HOST", "10.0.0.1").replace("--machine_rank R", "--machine_rank 1")
    options = shlex.split(given.split(" -m mote train ")[0])
    assert options[:2] == ["--config_file", f"configs/accelerate/{file.name}"]
    monkeypatch.chdir(ROOT)
    arguments = parsed(*options)
    assert arguments.mixed_precision == "no" and not arguments.use_cpu
    assert (arguments.multi_gpu, arguments.use_fsdp, arguments.num_machines) == {
        "one_gpu": (False, False, 1), "multi_node": (True, False, 2), "fsdp2": (False, True, 1),
    }.get(file.stem, (True, False, 1))  # fmt: skip
    if arguments.use_fsdp or arguments.multi_gpu:
        arguments.main_process_port = arguments.main_process_port or 0
        environment = launch.prepare_multi_gpu_env(arguments)
        assert environment["ACCELERATE_DYNAMO_BACKEND"] == ("INDUCTOR" if file.stem == "compile" else "NO")
        assert (environment.get("ACCELERATE_USE_FSDP"), environment.get("FSDP_VERSION")) == {
            "fsdp2": ("true", "2")
        }.get(file.stem, (None, None))  # fmt: skip
        if file.stem == "fsdp2":
            assert set(environment["FSDP_TRANSFORMER_CLS_TO_WRAP"].split(",")) == BLOCKS
    if file.stem == "multi_node":
        assert (arguments.nproc_per_node, arguments.nnodes, arguments.node_rank) == ("8", "2", 1)
        assert (arguments.rdzv_backend, arguments.rdzv_endpoint) == ("static", "10.0.0.1:29500")


def test_the_documentation_names_every_file_and_the_shards_are_cut_where_it_says():
    text = (ROOT / "docs" / "howto" / "launching.md").read_text()
    assert [file.name for file in FILES if f"{file.name}" not in text] == []
    from mote.models.folders import towers
    from mote.models.temporal import TemporalHead
    from mote.models.video_clip import VideoCLIP

    tiny = towers("tiny", None, 0)
    head = TemporalHead(tiny.embed_dim, num_layers=1, num_heads=1, num_experts=2)
    sizes = {"embed_dim": tiny.embed_dim, "mean": tiny.mean, "std": tiny.std}
    model = VideoCLIP(tiny.visual, tiny.logit_scale, head, **sizes)
    assert {type(module).__name__ for module in model.modules()} >= BLOCKS


def start(name: str, *more: str, processes: int = 2, **options) -> subprocess.CompletedProcess:
    """The toy run through `accelerate launch` with one of the files."""
    file = ["--config_file", str(ROOT / "configs" / "accelerate" / f"{name}.yaml"), "--num_processes", str(processes)]
    command = [sys.executable, "-m", "accelerate.commands.launch", *file, *more, SCRIPT]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    options = json.dumps(options, default=str)
    return subprocess.run([*command, options], env=environment, capture_output=True, text=True, timeout=300)


def records(run: Path) -> list[dict]:
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key != "time"} for line in lines]


def same(ours: list[dict], theirs: list[dict]) -> None:
    assert len(ours) == len(theirs)
    for a, b in zip(ours, theirs, strict=True):
        assert a.get("evaluation", a) == pytest.approx(b.get("evaluation", b), rel=1e-5, abs=1e-6)


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="stands in for what a machine with GPUs does")
@pytest.mark.parametrize("processes", [2, 4])
def test_shards_change_nothing_and_a_run_goes_on_with_and_without_them(tmp_path, processes):
    """FSDP2 on the CPU (see toy_run) against DDP: logs, evaluation, weights; each resumes what the other has saved."""
    options = {"sync_routing": True, "evaluated": True, "dropout": 0.0, "accumulation": 1 if processes == 4 else 2}
    wrap = ["--fsdp_transformer_layer_cls_to_wrap", "Block"]  # the toy has no ResidualAttentionBlock
    done = start("cpu", processes=processes, out=tmp_path / "ddp", **options)
    assert done.returncode == 0, done.stderr
    done = start("fsdp2", *wrap, processes=processes, out=tmp_path / "fsdp", **options)
    assert done.returncode == 0, done.stderr
    whole = records(tmp_path / "ddp")
    same(records(tmp_path / "fsdp"), whole)
    for first, second in (("cpu", "fsdp2"), ("fsdp2", "cpu")):
        out = tmp_path / f"{first} first"
        done = start(first, *(wrap if first == "fsdp2" else ()), processes=processes, out=out, stop_at=7, **options)
        assert done.returncode and "Stopped" in done.stderr and 0 < len(records(out)) < len(whole), done.stderr
        more = wrap if second == "fsdp2" else ()
        done = start(second, *more, processes=processes, out=out, resume=True, **options)
        assert done.returncode == 0, done.stderr
        same(records(out), whole)


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_shards_on_the_cpu_are_refused_rather_than_left_out(tmp_path):
    done = start("fsdp2", out=tmp_path / "run", honest=True)
    assert done.returncode and "LaunchError: FSDP was asked for (version 2, on cpu)" in done.stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("precision", ["fp32", "auto"])
def test_deepspeed_is_refused_in_one_line_that_names_what_there_is(monkeypatch, precision):
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")
    with pytest.raises(ValueError, match=r"DeepSpeed is not supported.*fsdp2\.yaml.*multi_gpu\.yaml") as caught:
        make_accelerator(precision, cpu=True)
    assert "\n" not in str(caught.value)


def test_a_launcher_that_starts_one_process_for_many_is_reported(monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_CPU", "True")
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    with pytest.warns(UserWarning, match=r"configs/accelerate/cpu\.yaml --num_processes N"):
        make_accelerator(cpu=True)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_shards_without_gpus_are_refused(monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(ValueError, match=r"FSDP was asked for \(version 1, on cpu\).*fsdp2\.yaml"):
        check_outcome("cpu", processes=2, fsdp2=False)
    check_outcome("cuda", processes=2, fsdp2=True)


LAUNCHED = {"WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29511"}


@pytest.mark.parametrize(
    ("variables", "cpu", "gpus", "said"),
    [
        (LAUNCHED, False, 0, "for GPUs, and there is none here, so 2 processes would train on their own"),
        ({"ACCELERATE_MIXED_PRECISION": "no", "ACCELERATE_USE_CPU": "False"}, False, 0, "for a GPU, and there is none"),
        (LAUNCHED | {"LOCAL_WORLD_SIZE": "2"}, False, 1, "2 processes were started here, but there are 1 GPUs"),
        ({"RANK": "1"}, True, 0, "set RANK, but not WORLD_SIZE, LOCAL_RANK, MASTER_ADDR, MASTER_PORT"),
        (
            {"WORLD_SIZE": "2", "RANK": "1"},
            True,
            0,
            "set WORLD_SIZE, RANK, but not LOCAL_RANK, MASTER_ADDR, MASTER_PORT",
        ),
        ({"LOCAL_RANK": "1"}, False, 2, "set LOCAL_RANK, but not"),
        (LAUNCHED | {"RANK": "2"}, True, 0, "WORLD_SIZE=2 and RANK=2: there is no such process"),
        (LAUNCHED | {"WORLD_SIZE": "two"}, True, 0, "WORLD_SIZE='two'"),
        ({"SLURM_STEP_NUM_TASKS": "4", "SLURM_PROCID": "1"}, False, 1, "srun started 4 processes that do not know"),
        ({"OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_RANK": "0"}, True, 0, "mpirun started 2 processes"),
    ],
)
def test_launches_that_would_train_several_times_are_one_line(monkeypatch, variables, cpu, gpus, said):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(LaunchError, match=said) as error:
        check_request(cpu=cpu, gpus=gpus)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("variables", "cpu", "gpus"),
    [
        ({}, False, 0),
        ({}, True, 4),
        (LAUNCHED, True, 0),
        (LAUNCHED | {"LOCAL_WORLD_SIZE": "2"}, False, 2),
        ({"ACCELERATE_MIXED_PRECISION": "no", "ACCELERATE_USE_CPU": "True"}, False, 0),
        ({"WORLD_SIZE": "1", "RANK": "0"}, False, 0),  # as some clusters set them for one process
        (
            {"SLURM_STEP_NUM_TASKS": "2", "SLURM_PROCID": "1", **LAUNCHED},
            True,
            0,
        ),  # srun of a launcher for each machine
        ({"SLURM_NTASKS": "4", "SLURM_PROCID": "0"}, False, 1),  # a batch script, which runs once
    ],
)
def test_launches_that_do_what_they_ask_for_are_let_through(monkeypatch, variables, cpu, gpus):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    check_request(cpu=cpu, gpus=gpus)
    assert is_first() == (variables.get("RANK", "0") == "0")


def test_processes_that_accelerate_left_alone_are_refused(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(LaunchError, match="2 processes were started, but accelerate made 1 of them"):
        check_outcome("cpu", processes=1, fsdp2=False)
    check_outcome("cpu", processes=2, fsdp2=False)


@pytest.mark.parametrize(("rank", "lines"), [("0", 1), ("1", 0)])
def test_what_all_processes_meet_is_said_by_the_first_alone(monkeypatch, capsys, tmp_path, rank, lines):
    for name, value in (LAUNCHED | {"RANK": rank}).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: 0)
    for override in ("optim.lr=.nan", "optim.lr=1"):  # the second one gets as far as the launch
        with pytest.raises(SystemExit) as stop:
            main(["train", "data.train=x", "optim.weight_decay=0", f"run.out={tmp_path / 'run'}", override])
        assert stop.value.code == 2 and capsys.readouterr().err.count("mote: error: ") == lines
    assert not (tmp_path / "run").exists()

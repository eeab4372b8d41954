"""What a launcher asks for by environment variables, and what is refused because it would not happen.

`torchrun` sets WORLD_SIZE, RANK, LOCAL_RANK, MASTER_ADDR and MASTER_PORT; `accelerate launch` sets variables
ACCELERATE_* as well, from its options and its configuration file. `accelerate launch --cpu` starts one process on a
machine; the launchers that start several are torchrun and, through it, `accelerate launch --multi_gpu`, GPU or not.
Starters of many processes that are no launchers, `srun` and `mpirun`, set variables of their own.
"""

import os
import warnings

RENDEZVOUS = ("WORLD_SIZE", "RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")  # all of them, or a process is alone
STARTERS = {  # of many processes: variable with their number -> variable with the number of this one, who set them
    "OMPI_COMM_WORLD_SIZE": ("OMPI_COMM_WORLD_RANK", "mpirun"),
    "PMI_SIZE": ("PMI_RANK", "mpirun"),
    "MV2_COMM_WORLD_SIZE": ("MV2_COMM_WORLD_RANK", "mpirun"),
    "SLURM_STEP_NUM_TASKS": ("SLURM_PROCID", "srun"),
}
LAUNCH = "accelerate launch --config_file configs/accelerate/"


class LaunchError(ValueError):
    """A launch that would not do what it asks for; raised in every process alike."""


def asked_for(name: str) -> bool:
    """Whether the launcher set ACCELERATE_USE_<name>, such as CPU, FSDP or DEEPSPEED, to true."""
    return os.environ.get(f"ACCELERATE_USE_{name}", "").lower() == "true"


def number(name: str) -> int | None:
    """An environment variable as a whole number; None where it is not set.

    Raises:
        LaunchError: it is something else.
    """
    text = os.environ.get(name, "")
    if text and not text.isdecimal():
        raise LaunchError(f"the environment variable {name}={text!r} is set by a launcher to a whole number; unset it")
    return int(text) if text else None


def has_company() -> bool:
    """Whether a launcher says that this process is one of several."""
    text = os.environ.get("WORLD_SIZE", "")
    return text.isdecimal() and int(text) > 1


def is_first() -> bool:
    """Whether this process speaks for all that were started with it: the only one, or that of number 0."""
    if has_company():
        return os.environ.get("RANK", "0") == "0"
    ranks = [rank for size, (rank, _) in STARTERS.items() if os.environ.get(size, "1") != "1"]
    return all(os.environ.get(rank, "0") == "0" for rank in ranks)


def check_request(*, cpu: bool, gpus: int) -> None:
    """Refuse a launch that would not do what it asks for. Call it before accelerate is set up.

    Args:
        cpu: training is to be on the CPU (`run.cpu`).
        gpus: graphics cards of this machine.

    Raises:
        LaunchError: DeepSpeed; processes that do not know one another; a launch for GPUs where there are too few.
    """
    if asked_for("DEEPSPEED"):
        raise LaunchError(
            "DeepSpeed is not supported; to train in shards launch with configs/accelerate/fsdp2.yaml, else with "
            "multi_gpu.yaml (plain DDP)"
        )
    processes = _processes()
    on_gpus = "ACCELERATE_MIXED_PRECISION" in os.environ and not asked_for("CPU")  # set by every `accelerate launch`
    if not cpu and not gpus and (processes > 1 or on_gpus):
        raise LaunchError(
            f"this launch is for GPUs, and there is none here, so {processes} processes would train on their own; with "
            f"`{LAUNCH}cpu.yaml` set run.cpu=true"
            if processes > 1
            else f"this launch is for a GPU, and there is none here; start mote without a launcher, or with "
            f"`{LAUNCH}cpu.yaml` and run.cpu=true"
        )
    here = number("LOCAL_WORLD_SIZE") or 1
    if not cpu and 0 < gpus < here:
        raise LaunchError(f"{here} processes were started here, but there are {gpus} GPUs; lower --num_processes")


def _processes() -> int:
    """How many processes were started together.

    Raises:
        LaunchError: they would not know one another.
    """
    world, rank = number("WORLD_SIZE"), number("RANK")
    given = [name for name in ("WORLD_SIZE", "RANK", "LOCAL_RANK") if os.environ.get(name)]
    lacking = [name for name in RENDEZVOUS if not os.environ.get(name)]
    if given and lacking and (world, rank or 0) != (1, 0):
        raise LaunchError(
            f"a launcher set {', '.join(given)}, but not {', '.join(lacking)}: this process could not find the others; "
            f"start it with `{LAUNCH}multi_gpu.yaml` or torchrun, or unset the variables"
        )
    if world is not None and (world < 1 or (rank or 0) >= world):
        raise LaunchError(f"the launcher set WORLD_SIZE={world} and RANK={rank or 0}: there is no such process")
    started, by = max((number(name) or 1, by) for name, (_, by) in STARTERS.items())
    if world is None and started > 1:
        raise LaunchError(
            f"{by} started {started} processes that do not know one another, and each would train on its own; have "
            f"{by} start one launcher on each machine (`{LAUNCH}multi_node.yaml` or torchrun), or for runs that have "
            f"nothing to do with one another unset {', '.join(name for name in STARTERS if os.environ.get(name))}"
        )
    return world or 1


def check_outcome(device: str, *, processes: int, fsdp2: bool) -> None:
    """Compare the launcher's request with what accelerate set up: type of device, number of processes, FSDP version 2.

    Warns of one process in place of several.

    Raises:
        LaunchError: FSDP of version 1, or without GPUs; processes that accelerate left alone.
    """
    if asked_for("FSDP") and not fsdp2:
        version = os.environ.get("FSDP_VERSION", "1")
        raise LaunchError(
            f"FSDP was asked for (version {version}, on {device}), but there is only version 2 on several GPUs; use "
            "configs/accelerate/fsdp2.yaml, or multi_gpu.yaml or cpu.yaml, without shards"
        )
    wanted = number("WORLD_SIZE") or 1
    if wanted > processes:
        raise LaunchError(
            f"{wanted} processes were started, but accelerate made {processes} of them work together (on {device}); "
            f"start them with one of the files in configs/accelerate/"
        )
    # The launcher gives an address when asked for several processes, but with --cpu it starts one (accelerate 1.15),
    # and it does not say how many were wanted.
    several = "MASTER_ADDR" in os.environ and "WORLD_SIZE" not in os.environ
    if asked_for("CPU") and several and processes == 1:
        warnings.warn(
            "`accelerate launch --cpu` started one process only; for N use `accelerate launch --config_file "
            "configs/accelerate/cpu.yaml --num_processes N` (or --multi_gpu in the place of --cpu) and run.cpu=true",
            stacklevel=3,  # of the caller of `make_accelerator`
        )

"""What a launcher asks for by environment variables, and what is refused because it would not happen.

`torchrun` sets WORLD_SIZE and MASTER_ADDR; `accelerate launch` sets variables ACCELERATE_* as well, from its options
and its configuration file. `accelerate launch --cpu` starts one process on a machine; the launchers that start several
are torchrun and, through it, `accelerate launch --multi_gpu`, GPU or not.
"""

import os
import warnings


def asked_for(name: str) -> bool:
    """Whether the launcher set ACCELERATE_USE_<name>, such as CPU, FSDP or DEEPSPEED, to true."""
    return os.environ.get(f"ACCELERATE_USE_{name}", "").lower() == "true"


def check_request() -> None:
    """Raises ValueError where the launcher asks for DeepSpeed. Call it before accelerate is set up."""
    if asked_for("DEEPSPEED"):
        raise ValueError(
            "DeepSpeed is not supported; to train in shards launch with configs/accelerate/fsdp2.yaml, else with "
            "multi_gpu.yaml (plain DDP)"
        )


def check_outcome(device: str, *, processes: int, sharded: bool) -> None:
    """Compare what accelerate has set up with what the launcher asked for; warn of one process in place of several.

    Args:
        device: type of this process's device, such as "cpu" or "cuda".
        processes: number of processes.
        sharded: whether FSDP of version 2 cuts weights into shards.

    Raises:
        ValueError: FSDP was asked for, but in version 1, or where there are no GPUs for it.
    """
    if asked_for("FSDP") and not sharded:
        version = os.environ.get("FSDP_VERSION", "1")
        raise ValueError(
            f"FSDP was asked for (version {version}, on {device}), but there is only version 2 on several GPUs; use "
            "configs/accelerate/fsdp2.yaml, or multi_gpu.yaml or cpu.yaml, without shards"
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

"""`mote` in two processes that know of one another, one import of torch for both: `python process_pair.py VERB ...`.

They have the variables of torchrun, and are forked from a process that has imported what they need and done nothing
else, so that it has no threads whose locks a fork could leave closed. The exit code is 0 where that of both is.
"""

import multiprocessing
import os
import socket
import subprocess
import sys
from pathlib import Path

from mote.cli import main


def two_processes(*arguments: str | Path) -> None:
    """Run both to their end; a failure of one raises CalledProcessError."""
    subprocess.run([sys.executable, __file__, *map(str, arguments)], check=True, timeout=240)


def run_both(arguments: list[str]) -> int:
    """The higher exit code of the two."""
    import mote.evaluation.evaluate
    import mote.experiments.train
    import mote.experiments.video  # noqa: F401

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_one_of_two, args=(rank, port, arguments)) for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    return max(abs(process.exitcode or 0) for process in processes)


def _one_of_two(rank: int, port: int, arguments: list[str]) -> None:
    os.environ |= {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "RANK": str(rank), "LOCAL_RANK": str(rank)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    main(arguments)


if __name__ == "__main__":
    sys.exit(run_both(sys.argv[1:]))

"""`mote` in two processes that know of one another, with one import of torch for both."""

import multiprocessing
import os
import socket
from pathlib import Path

from mote.cli import main

LOADED = ["mote.experiments.train", "mote.experiments.video", "mote.evaluation.evaluate"]


def two_processes(*arguments: str | Path) -> None:
    """Both end with exit code 0.

    They have the variables of torchrun, and are forked from a process that has imported what they need and done nothing
    else, so that it has no threads whose locks a fork could leave closed.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(LOADED)
    processes = [context.Process(target=_one_of_two, args=(rank, port, arguments), daemon=True) for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(timeout=180)
    ends = [process.exitcode for process in processes]
    for process in processes:
        process.kill()
    assert ends == [0, 0]


def _one_of_two(rank: int, port: int, arguments: tuple[str | Path, ...]) -> None:
    os.environ |= {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "RANK": str(rank), "LOCAL_RANK": str(rank)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    main([*map(str, arguments)])

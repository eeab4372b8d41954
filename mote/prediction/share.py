"""Which inputs a process takes of a list that several share: by their names, so that nobody waits for another."""

import hashlib
import re
from typing import NamedTuple


class Share(NamedTuple):
    """Which inputs are a process's own: those of job `number` of `jobs`, and among them of one of its processes.

    By the hash of the name alone, so that nobody has to agree on anything but `jobs`.
    """

    number: int = 1
    jobs: int = 1
    process: int = 0
    processes: int = 1

    def takes(self, name: str) -> bool:
        """Whether the input of this name is among them."""
        if self.jobs * self.processes == 1:
            return True
        digest = hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).digest()
        rest, job = divmod(int.from_bytes(digest, "big"), self.jobs)
        return job == self.number - 1 and rest % self.processes == self.process


ALL = Share()


def parse_share(text: str) -> Share:
    """The share that `--part i/n` names, i from 1 to n; raises ValueError."""
    found = re.fullmatch(r"(\d{1,9})/(\d{1,9})", text)
    number, jobs = (int(found[1]), int(found[2])) if found else (0, 0)
    if not 1 <= number <= jobs:
        raise ValueError(f"--part {text}: expected i/n with i from 1 to n, such as 1/8, 2/8, ..., 8/8")
    return Share(number, jobs)

"""Undecodable training clips: counted in every epoch, and listed in the run directory."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mote.files.writing import write_atomic
from mote.parallel.accelerator import Accelerator, on_main
from mote.training.checkpoint import Progress

UNREADABLE = "unreadable.txt"  # in the run directory: a line `path<TAB>cause` for each undecodable training video
Skipped = tuple[int, str]  # the index of an undecodable clip, and "path<TAB>cause"


class TooManySkippedError(RuntimeError):
    """More undecodable clips in an epoch than allowed; `skipped`: those of the last step."""

    def __init__(self, message: str, skipped: Sequence[Skipped] = ()):
        super().__init__(message, skipped)
        self.skipped = tuple(skipped)

    def __str__(self) -> str:
        return self.args[0]


@dataclass
class Unreadable:
    """The undecodable clips of a run.

    path: of the list; limit: most of them allowed per epoch, None for any number; causes: why, for each file so far.
    """

    accelerator: Accelerator
    path: Path
    limit: int | None
    causes: dict[str, str]

    @classmethod
    def of(cls, accelerator: Accelerator, out: Path, limit: int | None) -> "Unreadable":
        """What the run in `out` has met so far. Call it in every process."""
        path = out / UNREADABLE
        return cls(accelerator, path, limit, on_main(accelerator, lambda: read_unreadable(path)))

    def note(self, skipped: Sequence[Skipped], progress: Progress, batch_size: int) -> None:
        """List the clips that one step of `batch_size` clips had to skip, and add to the epoch's count in `progress`.

        Raises:
            TooManySkippedError: past the limit, or when no file of a step is there: the disk with them is gone, and an
                update from nothing would move the weights by momentum and decay alone. (One clip a step says nothing
                of a disk.)
        """
        progress.skipped += len(skipped)
        new = dict(cause.rsplit("\t", 1) for _, cause in skipped if "\t" in cause)
        if not new.keys() <= self.causes.keys():
            self.causes |= new
            lines = "".join(f"{name}\t{cause}\n" for name, cause in self.causes.items())
            on_main(self.accelerator, lambda: write_atomic(self.path, lines))
        if self.limit is not None and progress.skipped > self.limit:
            raise TooManySkippedError(
                f"epoch {progress.epoch}: {progress.skipped} undecodable clips, more than the {self.limit} allowed by "
                "data.max_bad_fraction",
                skipped,
            )
        if 1 < batch_size == len(skipped) and all(is_missing(cause) for _, cause in skipped):
            raise TooManySkippedError(f"step {progress.step + 1}: none of its {len(skipped)} files is there", skipped)


def read_unreadable(path: Path) -> dict[str, str]:
    """{path: cause} of a list of undecodable videos; none where there is no list."""
    lines = path.read_text(encoding="utf-8", errors="surrogateescape").splitlines() if path.exists() else []
    return dict(line.rsplit("\t", 1) for line in lines)


def is_missing(cause: str) -> bool:
    """Whether the cause of an undecodable clip, `path<TAB>why`, is that its file does not exist."""
    return cause.endswith("\tthere is no such file")

"""Checkpoints of a run, complete at every moment, and the rules for its directory.

`last/` holds `weights-STEP.safetensors`, `optimizer-STEP.pt` and `state.json`. The first two are new files for every
step; `state.json` names them and is replaced by one rename, which is the commit: a kill at any moment leaves the old
state with the old files or the new state with the new files. (Renaming a whole folder over another is not atomic.)
`state.json` may name older checkpoints too, newest first; checkpoints that it does not name are removed after the
commit, and nothing else is.
"""

import json
import pickle
import re
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NotRequired, TypedDict

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from mote.files.names import name_difference
from mote.files.patient import PatientFile
from mote.files.temporary import remove_leftovers
from mote.files.writing import replacing, write_atomic, writing
from mote.training.directory import check_directory

_FILES = re.compile(r"weights-\d{8,}\.safetensors|optimizer-\d{8,}\.pt")  # of checkpoints, in `last/`


class Bound(TypedDict):
    """What gives a run's numbers their meaning: it must be the same when the run goes on.

    settings: by `section.key`; classes: names by label; templates: prompts; records: SHA-256 of the training list, as
    paths and labels, and its length.
    """

    settings: dict[str, object]
    classes: list[str]
    templates: list[str]
    records: tuple[str, int]


@dataclass
class Progress:
    """Where a run stands.

    step: updates made; best, best_step: highest selected metric and the step it was reached; skipped: undecodable clips
    met in the current epoch; unevaluated: the epoch is trained, but its evaluation is still to come; steps_per_epoch,
    fingerprint and bound must not change on resume. bound: None in runs of versions that did not record it.
    """

    steps_per_epoch: int
    fingerprint: str = ""
    step: int = 0
    best: float | None = None
    best_step: int | None = None
    skipped: int = 0
    unevaluated: bool = False
    bound: Bound | None = None

    @property
    def epoch(self) -> int:
        """Epochs completed."""
        return self.step // self.steps_per_epoch


class OptimizerState(TypedDict):
    """The state dict of a torch optimizer: moments by parameter number, settings by group."""

    state: dict[int, dict[str, Tensor]]
    param_groups: list[dict[str, Any]]


class TrainingState(TypedDict):
    """What `optimizer-STEP.pt` holds; `scaler` is of fp16, `after_update` of what changes weights after updates."""

    optimizer: OptimizerState
    scaler: dict[str, Any] | None
    after_update: NotRequired[dict[str, Any]]


def open_run(out: Path, resume: bool, allowed: tuple[str, ...] = ()) -> None:
    """Check the run directory, see `check_directory`, and make it where it is missing."""
    check_directory(out, resume, allowed)
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)


def save_checkpoint(folder: Path, task: nn.Module, training: TrainingState, progress: Progress, keep: int = 1) -> None:
    """Write weights, optimizer state and progress so that a kill at any moment leaves one complete checkpoint.

    Args:
        folder: `last/` of the run.
        task: the unwrapped module; all its parameters and buffers are saved.
        training: the state of what updates the weights.
        progress: where the run stands.
        keep: checkpoints kept, this one included, >= 1.

    Raises:
        OSError: naming the folder, with the reason; the checkpoint from before is intact.
    """
    weights, optimizer = f"weights-{progress.step:08d}.safetensors", f"optimizer-{progress.step:08d}.pt"
    state = {"weights": weights, "optimizer": optimizer, "epoch": progress.epoch, "progress": asdict(progress)}
    with writing(folder):
        states = _states(folder / "state.json")
        older = [other for other in states if other["progress"]["step"] < progress.step][: keep - 1]
        with replacing(folder / weights) as temporary:
            safetensors.torch.save_model(task, str(temporary))
        with replacing(folder / optimizer) as temporary, PatientFile(temporary) as file:
            torch.save(training, file)  # type: ignore[arg-type]
        write_atomic(folder / "state.json", json.dumps({**state, "older": older}, indent=1) + "\n")
        named = {name for entry in (state, *older) for name in (entry["weights"], entry["optimizer"])}
        remove_leftovers(folder, of_others=True)  # whoever has the run writes here alone
        for path in folder.iterdir():
            if _FILES.fullmatch(path.name) and path.name not in named:
                path.unlink()


def _states(path: Path) -> list[dict[str, Any]]:
    """The checkpoints that `state.json` names, newest first; none where there is no such file or it is damaged."""
    try:
        state = json.loads(path.read_text(encoding="utf-8"))
        return [state, *state.pop("older", [])]
    except (FileNotFoundError, ValueError, AttributeError):
        return []


def load_checkpoint(folder: Path, task: nn.Module) -> tuple[Progress, TrainingState] | None:
    """Progress and training state, with the weights loaded into `task` (on any device); None where none was written.

    Where the newest checkpoint is damaged and an older one is kept, that one is loaded, with a warning.

    Raises:
        ValueError: naming the file that is unreadable or does not fit the task.
    """
    path = folder / "state.json"
    if not path.exists():
        return None
    states = _states(path)
    if not states:
        raise ValueError(f"{path}: cannot be resumed from: it is damaged")
    for number, state in enumerate(states, start=1):
        try:
            return _load(folder, state, task)
        except ValueError as error:
            if number == len(states):
                raise
            warnings.warn(f"{error}; going on from the checkpoint before it", stacklevel=2)
    return None


def _load(folder: Path, state: dict[str, Any], task: nn.Module) -> tuple[Progress, TrainingState]:
    path = folder / "state.json"
    try:
        progress = Progress(**state["progress"])
        path = folder / state["weights"]
        safetensors.torch.load_model(task, str(path))
        path = folder / state["optimizer"]
        training = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:  # its text invites to load unsafely
        raise ValueError(f"{path}: cannot be resumed from: damaged, or not a checkpoint of this program") from error
    except (KeyError, TypeError, ValueError, RuntimeError, OSError, SafetensorError) as error:
        raise ValueError(f"{path}: cannot be resumed from: {' '.join(str(error).split())}") from error
    return progress, training


def resumed(out: Path, task: nn.Module, new: Progress) -> tuple[Progress, TrainingState | None]:
    """Where the run in `out` goes on; its weights are loaded into `task`. `new` where nothing was saved yet.

    Raises:
        ValueError: the checkpoint is damaged, of another configuration, other names or another training list, or of an
            epoch with other steps than `new` has.
    """
    check_bound(out, new.fingerprint, new.bound)  # before weights of other sizes are loaded
    found = load_checkpoint(out / "last", task)
    if found is None:
        return new, None
    progress = found[0]
    if not (progress.bound and new.bound) and progress.fingerprint != new.fingerprint:
        raise ValueError(
            f"{out}: belongs to another configuration than its config.yaml, which was changed since, and it did not "
            "record which; put the file back as it was, or start anew in another run.out"
        )
    progress.bound = progress.bound or new.bound  # a run that did not record it does from now on
    if progress.steps_per_epoch != new.steps_per_epoch:
        raise ValueError(
            f"{out}: had {progress.steps_per_epoch} steps per epoch, now {new.steps_per_epoch}; "
            "resume with the same training list and batch size"
        )
    return found


def check_bound(out: Path, fingerprint: str, now: Bound | None) -> None:
    """Raise ValueError, naming what differs, where the run in `out` began with something else than it would go on with.

    Warns where the run did not record it.
    """
    states = _states(out / "last" / "state.json")
    if not states or now is None or not isinstance(then := states[0].get("progress"), dict):
        return
    bound = then.get("bound")
    if bound and (lines := differences(bound, now)):
        more = f" and {len(lines) - 3} more" if len(lines) > 3 else ""
        raise ValueError(
            f"{out}: belongs to another configuration: {'; '.join(lines[:3])}{more}; undo it, or start anew"
        )
    if not bound and then.get("fingerprint") == fingerprint:
        warnings.warn(
            f"{out}: begun by a version that did not record class names, templates and training list, so they could"
            " not be compared",
            stacklevel=3,
        )


def differences(then: Bound, now: Bound) -> list[str]:
    """What differs between two descriptions of a run, a line each; settings that one of them lacks are not compared."""
    lines = [
        f"{key} was {then['settings'][key]!r}, now {now['settings'][key]!r}"
        for key in then["settings"]
        if key in now["settings"] and then["settings"][key] != now["settings"][key]
    ]
    for kind, one, other in (
        ("class", then["classes"], now["classes"]),
        ("template", then["templates"], now["templates"]),
    ):
        if (line := name_difference(one, other, kind)) is not None:
            lines.append(line)
    if (old := then["records"])[0] != (new := now["records"])[0]:
        counts = f"{old[1]} samples then, {new[1]} now" if old[1] != new[1] else "other files, labels or order"
        lines.append(f"the training list differs: {counts}")
    return lines

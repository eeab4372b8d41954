"""Model folders: a file of tensors that is read one tensor at a time, and the two files that are written."""

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from mote.files.run_directory import DESCRIPTION, WEIGHTS, read_description
from mote.files.writing import replacing_together


def on_cpu(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors as safetensors writes them."""
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}


def write_model_folder(folder: Path, tensors: Mapping[str, Tensor], description: Mapping[str, object]) -> None:
    """Write `model.safetensors` and `model.json` (JSON values), both or neither."""
    text, state = json.dumps(description, indent=2) + "\n", on_cpu(tensors)
    with replacing_together(folder) as stage:
        save_file(state, stage / WEIGHTS)
        (stage / DESCRIPTION).write_text(text, encoding="utf-8")


def task_of(folder: Path) -> str | None:
    """`task` in the `model.json` of a folder; None where there is no such file, or a video model."""
    try:
        return read_description(folder).get("task")
    except (OSError, ValueError):
        return None


class Tensors(Mapping[str, Tensor]):
    """The tensors of a safetensors file, each a view of the file that is mapped while the view lives.

    One by one, because all of a mapped file that has been read counts as memory of the process.
    """

    def __init__(self, path: Path):
        self._path = path
        with safe_open(path, "pt") as file:
            self._names = list(file.keys())

    def leave_out(self, names: Iterable[str]) -> list[str]:
        """Exclude `names` from iteration, not from lookup; the result are those that the file has."""
        hidden = [name for name in names if name in self._names]
        self._names = [name for name in self._names if name not in hidden]
        return hidden

    def __getitem__(self, name: str) -> Tensor:
        with safe_open(self._path, "pt") as file:
            return file.get_tensor(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

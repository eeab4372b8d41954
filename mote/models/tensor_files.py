"""safetensors files read one tensor at a time, and files that are written whole or not at all."""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from safetensors import safe_open
from torch import Tensor


class Tensors(Mapping[str, Tensor]):
    """The tensors of a safetensors file, each a view of the file that is mapped while the view lives.

    One by one, because all of a mapped file that has been read counts as memory of the process.
    """

    def __init__(self, path: Path):
        self._path = path
        with safe_open(path, "pt") as file:
            self._names = list(file.keys())

    def leave_out(self, names: Iterable[str]) -> list[str]:
        """Hide those of `names` that are there, and return them; they can still be asked for."""
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


def write_whole(path: Path, write: Callable[[Path], Any]) -> None:
    """Call ``write`` with a temporary path beside ``path``, then rename, so that readers never see half a file."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.touch()
        mode = temporary.stat().st_mode  # what the user's umask gives; safetensors makes files private
        write(temporary)
        temporary.chmod(mode)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)

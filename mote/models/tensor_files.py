"""safetensors files read one tensor at a time, and files that are written whole or not at all."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

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

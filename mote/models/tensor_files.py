"""Model folders: a file of tensors, read one at a time and checked, and the two files that are written."""

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from mote.files.run_directory import DESCRIPTION, WEIGHTS
from mote.files.writing import replacing_together

FLOATS = (torch.float64, torch.float32, torch.bfloat16, torch.float16)  # number formats that weights come in
LARGEST = 1e8  # magnitude that no weight of a network that works comes near
LIMITS = {  # last part of a tensor's name -> smallest and largest number in it
    "logit_scale": (-20.0, 20.0),
    "running_var": (0.0, LARGEST),
    "std": (1e-6, LARGEST),
    "num_batches_tracked": (0, math.inf),
}

Network = TypeVar("Network", bound=nn.Module)


def on_cpu(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors as safetensors writes them."""
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}


def write_model_folder(folder: Path, tensors: Mapping[str, Tensor], description: Mapping[str, object]) -> None:
    """Write `model.safetensors` and `model.json` (JSON values), both or neither."""
    text, state = json.dumps(description, indent=2) + "\n", on_cpu(tensors)
    with replacing_together(folder) as stage:
        save_file(state, stage / WEIGHTS)
        (stage / DESCRIPTION).write_text(text, encoding="utf-8")


class Tensors(Mapping[str, Tensor]):
    """The tensors of a safetensors file, each a view of the file that is mapped while the view lives.

    One by one, because all of a mapped file that has been read counts as memory of the process.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged, or a tensor, when it is looked up, is of a type that torch does not have.
    """

    def __init__(self, path: Path):
        self._path = path
        if not path.is_file():
            raise FileNotFoundError(f"{path}: not found; expected the weights of a model, in safetensors")
        try:
            with safe_open(path, "pt") as file:
                self._names = list(file.keys())
                self.metadata: dict[str, str] = file.metadata() or {}
        except SafetensorError as error:
            reason = " ".join(str(error).split())
            raise ValueError(f"{path}: damaged ({reason}); expected safetensors as mote writes them") from None

    def take(self, names: Iterable[str]) -> dict[str, Tensor]:
        """Copies of those of `names` that the file has; they are left out of iteration from now on."""
        found = {name: self[name].clone() for name in names if name in self._names}
        self._names = [name for name in self._names if name not in found]
        return found

    def __getitem__(self, name: str) -> Tensor:
        if name not in self._names:
            raise KeyError(name)
        try:
            with safe_open(self._path, "pt") as file:
                return file.get_tensor(name)
        except Exception as error:  # safetensors has number formats for which torch has no type
            raise ValueError(f"{self._path}: tensor {name}: cannot be read ({type(error).__name__})") from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def check_names(names: Iterable[str], problem: str, path: Path) -> None:
    """Raise ValueError, in one line, when `names` names any tensors: those of the file at `path` with this problem."""
    names = sorted(" ".join(name.split())[:100] for name in names)
    if names:
        more = f" and {len(names) - 6} more" if len(names) > 6 else ""
        raise ValueError(f"{path}: tensors {problem}: {', '.join(names[:6])}{more}")


def check_tensors(state: Mapping[str, Tensor], own: Mapping[str, Tensor], path: Path) -> None:
    """Check that `state`, read from `path`, can take the place of all tensors `own` of a network.

    `own` may be on the device `meta`: only names, shapes and types are read.

    Raises:
        ValueError: names missing or unknown, another shape or type, or numbers as for `check_numbers`; in one line.
    """
    check_names(set(own) - set(state), "missing", path)
    check_names(set(state) - set(own), "unknown", path)
    shapes = {name: (tuple(state[name].shape), tuple(own[name].shape)) for name in own}
    odd = {f"{name} {found} for {expected}" for name, (found, expected) in shapes.items() if found != expected}
    check_names(odd, "of another shape", path)
    check_numbers(state, own, path)


def filled(build: Callable[[str], Network], state: Mapping[str, Tensor], path: Path, place: Path) -> Network:
    """The network that `build` makes on a device, with the parameters `state`, in evaluation mode on the CPU.

    It is built without memory first (on "meta"): sizes that the file of parameters does not have cost nothing.

    Args:
        build: called with "meta", and once more with "cpu" where the network has tensors that no file holds.
        state: as read.
        path: the file of `state`, which messages name.
        place: the file that gave the sizes.

    Raises:
        ValueError: there is no network of these sizes, or `state` does not fit it; one line.
    """
    try:
        network = build("meta")
    except Exception as error:  # torch, open_clip and timm raise anything
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise ValueError(f"{place}: no network has these sizes: {reason}") from None
    own = network.state_dict()
    check_tensors(state, own, path)
    if any(buffer.is_meta for name, buffer in network.named_buffers() if name not in own):
        network = build("cpu")
    network.load_state_dict({name: state[name].to(own[name].dtype, copy=True) for name in own}, assign=True)
    return network.eval()


def check_numbers(state: Mapping[str, Tensor], own: Mapping[str, Tensor], path: Path) -> None:
    """Check the numbers of the tensors that `state`, read from `path`, and `own`, of a network, both name.

    Raises:
        ValueError: whole numbers for a tensor of fractions or the reverse, and packed ones such as int8; numbers that
            are not finite, or outside of LIMITS; in one line.
    """
    both = {name: (state[name], own[name]) for name in state if name in own}
    odd = {f"{name} ({_format(found)})" for name, (found, wanted) in both.items() if not _same_kind(found, wanted)}
    check_names(odd, "of another type", path)
    check_names({f"{name} ({words})" for name in both if (words := _oddity(name, state[name]))}, "not usable", path)


def _format(tensor: Tensor) -> str:
    return f"{tensor.dtype}".removeprefix("torch.")


def _same_kind(found: Tensor, wanted: Tensor) -> bool:
    plain = found.layout == torch.strided and not found.is_quantized and not found.is_meta
    return plain and (found.dtype in FLOATS if wanted.dtype in FLOATS else found.dtype == wanted.dtype)


def _oddity(name: str, tensor: Tensor) -> str | None:
    """What is wrong with the numbers of a tensor: not finite, or outside of LIMITS; None where nothing is."""
    if not tensor.numel() or tensor.dtype == torch.bool:
        return None
    least, most = LIMITS.get(name.rpartition(".")[2], (-LARGEST, LARGEST))
    low, high = (end.item() for end in tensor.aminmax())  # both are nan where one number is
    if math.isnan(low):
        return "holds numbers that are not finite (nan)"
    return None if least <= low and high <= most else f"holds numbers from {low:.3g} to {high:.3g}"

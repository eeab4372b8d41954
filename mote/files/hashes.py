"""SHA-256 of files, lists of texts and tensors: what results are tied to."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor


def sha256_file(path: Path | str) -> str:
    """SHA-256 of a file's bytes as 64 hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_lines(lines: Sequence[str]) -> str:
    """SHA-256 of a text file of these lines: for lists (of classes, of clips) that have no file."""
    return hashlib.sha256("".join(f"{line}\n" for line in lines).encode("utf-8", "surrogateescape")).hexdigest()


def sha256_tensors(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over names, types, shapes and values of a state dict, in the order of the names."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        flat = tensor.as_strided((tensor.numel(),), (1,))  # the stride of a single number may be anything
        digest.update(flat.view(torch.uint8).numpy().data)  # as bytes: numpy has no bfloat16
    return digest.hexdigest()

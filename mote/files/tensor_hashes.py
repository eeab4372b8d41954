"""SHA-256 of tensors: of the weights that results are tied to."""

import hashlib
from collections.abc import Mapping

import torch
from torch import Tensor


def sha256_tensors(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over names, types, shapes and values of a state dict, in the order of the names."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        flat = tensor.as_strided((tensor.numel(),), (1,))  # the stride of a single number may be anything
        digest.update(flat.view(torch.uint8).numpy().data)  # as bytes: numpy has no bfloat16
    return digest.hexdigest()

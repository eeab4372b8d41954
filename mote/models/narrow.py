"""Physical removal: the same network with fewer units, heads and channels, its parameters cut along their axes.

`narrow` keeps the named parts of each site and throws the others away; whether the outputs stay the same is the
caller's business (`mote.sparsity.compact`). A narrow network is rebuilt from its whole one by keeping as many parts as
were left, whatever their values, and loading the weights on top.
"""

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Int64
from torch import Tensor, nn

from mote.models.attention import NarrowAttention
from mote.models.image_nets import MLP, LeNet, ResidualBlock, ResNet
from mote.models.sites import Site, sites
from mote.models.temporal import Attention
from mote.models.video_clip import VideoCLIP


def narrow(model: nn.Module, kept: Mapping[str, Int64[Tensor, "n"]]) -> None:
    """Keep these parts of the named sites, in this model; the new parameters are copies, draws no random numbers.

    Args:
        model: changed in place; build optimizers and wrappers afterwards.
        kept: name of a site -> indices of the parts that stay, ascending.

    Raises:
        ValueError: a name that is no site of the model, indices out of range, or nothing left where one must stay.
    """
    known = {site.name: site for site in sites(model)}
    for name, index in kept.items():
        if name not in known:
            raise ValueError(f"{name}: not a place where this network can lose width; expected one of {sorted(known)}")
        count = len(known[name])
        if len(index) and not 0 <= int(index.min()) <= int(index.max()) < count:
            raise ValueError(f"{name}: has {count} parts, asked to keep {index.tolist()}")
        if not len(index) and known[name].closing is None:
            raise ValueError(f"{name}: all parts would go and with them the network; keep one")
    _cut(model, [(known[name], index) for name, index in kept.items()])
    for name, index in kept.items():
        _refresh(model, name, len(index))
    for module in model.modules():
        _sizes(module)
    if isinstance(model, VideoCLIP):
        model.widths = {**model.widths, **{name: len(index) for name, index in kept.items()}}


def _cut(model: nn.Module, kept: list[tuple[Site, Tensor]]) -> None:
    gone: dict[tuple[str, int], list[Tensor]] = {}
    for site, index in kept:
        lost = torch.ones(len(site), dtype=torch.bool)
        lost[index] = False
        for part in site.slices():
            gone.setdefault((part.name, part.axis), []).append(part.indices[lost].flatten())
    for (name, axis), indices in gone.items():
        path, _, leaf = name.rpartition(".")
        module = model.get_submodule(path)
        tensor: Tensor = getattr(module, leaf)
        stays = torch.ones(tensor.shape[axis], dtype=torch.bool)
        stays[torch.cat(indices)] = False
        if stays.all():
            continue
        cut = tensor.detach().index_select(axis, stays.nonzero()[:, 0].to(tensor.device)).clone()
        setattr(module, leaf, nn.Parameter(cut, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else cut)


def _refresh(model: nn.Module, name: str, count: int) -> None:
    """What a module at a site says about itself, and a module that can have no width at all."""
    module: Any = model.get_submodule(name)
    if isinstance(module, nn.MultiheadAttention) and count < module.num_heads:
        path, _, leaf = name.rpartition(".")
        setattr(model.get_submodule(path), leaf, NarrowAttention(module))
        module = model.get_submodule(name)
    if isinstance(module, (Attention, NarrowAttention)):
        module.num_heads = count
    elif isinstance(module, ResidualBlock) and not count:
        module.conv1 = module.bn1 = module.conv2 = None


def _sizes(part: nn.Module) -> None:
    module: Any = part
    if isinstance(part, nn.Linear):
        module.out_features, module.in_features = module.weight.shape
    elif isinstance(part, nn.Conv2d) and module.groups == 1:
        module.out_channels, module.in_channels = module.weight.shape[:2]
    elif isinstance(part, nn.BatchNorm2d):
        module.num_features = len(module.weight)
    elif isinstance(part, LeNet):
        left = {"conv1": len(module.conv1.weight), "conv2": len(module.conv2.weight), "hidden": len(module.fc1.weight)}
        module.sizes |= left
    elif isinstance(part, MLP):
        module.sizes["hidden"] = [len(layer.weight) for layer in module.layers]
    elif isinstance(part, ResNet):
        module.sizes["inner"] = [0 if block.conv1 is None else len(block.conv1.weight) for block in module.blocks]

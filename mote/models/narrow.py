"""Physical removal: the same network with fewer units, heads and channels, its parameters cut along their axes.

`narrow` keeps the named parts of each site and throws the others away; whether the outputs stay the same is the
caller's business (`mote.sparsity.compact`). A narrow network is rebuilt from its whole one by keeping as many parts as
were left, whatever their values, and loading the weights on top.
"""

from collections.abc import Mapping

import torch
from jaxtyping import Int64
from torch import Tensor, nn

from mote.models.image_nets import MLP, LeNet, ResidualBlock, ResNet
from mote.models.open_clip_blocks import NarrowAttention
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
        _update_site(model, name, len(index))
    for module in model.modules():
        _update_sizes(module)
    if isinstance(model, VideoCLIP):
        model.widths = {**model.widths, **{name: len(index) for name, index in kept.items()}}


def _cut(model: nn.Module, kept: list[tuple[Site, Tensor]]) -> None:
    """Remove the slices of all other parts from the tensors of the model."""
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


def _update_site(model: nn.Module, name: str, count: int) -> None:
    """Set the number of parts of a module at a site, or replace it by a module that can have so few."""
    module = model.get_submodule(name)
    if isinstance(module, nn.MultiheadAttention) and count < module.num_heads:
        module = NarrowAttention(module)
        path, _, leaf = name.rpartition(".")
        setattr(model.get_submodule(path), leaf, module)
    if isinstance(module, (Attention, NarrowAttention)):
        module.num_heads = count
    elif isinstance(module, ResidualBlock) and not count:
        module.conv1 = module.bn1 = module.conv2 = None


def _update_sizes(module: nn.Module) -> None:
    """Make the sizes that a module reports those of its tensors."""
    if isinstance(module, nn.Linear):
        module.out_features, module.in_features = module.weight.shape
    elif isinstance(module, nn.Conv2d) and module.groups == 1:
        module.out_channels, module.in_channels = module.weight.shape[:2]
    elif isinstance(module, nn.BatchNorm2d):
        module.num_features = len(module.weight)
    elif isinstance(module, LeNet):
        left = {"conv1": len(module.conv1.weight), "conv2": len(module.conv2.weight), "hidden": len(module.fc1.weight)}
        module.sizes |= left
    elif isinstance(module, MLP):
        module.sizes["hidden"] = [len(layer.weight) for layer in module.layers if isinstance(layer, nn.Linear)]
    elif isinstance(module, ResNet):
        blocks = (block.conv1 for block in module.blocks if isinstance(block, ResidualBlock))
        module.sizes["inner"] = [0 if conv is None else len(conv.weight) for conv in blocks]

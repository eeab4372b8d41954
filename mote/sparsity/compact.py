"""Physical removal of what is zero: the same function from a smaller network.

Per part of every site (`mote.models.sites`), with W_in and W_out its weights and c what it emits when W_in is zero:

    W_out = 0                 nobody reads it                        remove
    W_in = 0, c = 0           it says nothing                        remove
    W_in = 0, c != 0          it is a constant: b <- b + W_out c     remove, where the constant can move

(paper: a neuron without inputs "degenerates to a bias neuron in the next layer", one without outputs is removable; Wen
et al., NIPS 2016, section 3.1). Removal in one layer can leave zeros in the one before, so the sweep repeats until
nothing changes. Layers that are a residual branch may vanish; in a chain one part stays. The authors' code removes
nothing and masks updates instead.
"""

import copy
from typing import TypeVar

import torch
from torch import Tensor, nn

from mote.models.narrow import narrow
from mote.models.sites import Site, sites
from mote.sparsity.groups import squared_norms

Network = TypeVar("Network", bound=nn.Module)


@torch.no_grad()
def compact(model: Network) -> Network:
    """A copy of `model` without its zero parts, equal to it in evaluation mode up to rounding.

    The copy has parameters of its own and can be trained; it knows its widths (see `mote.models.narrow`). In training
    mode constants that were folded no longer learn in their old place.
    """
    small = copy.deepcopy(model)
    changed = True
    while changed:
        changed = False
        for name in [site.name for site in reversed(sites(small))]:
            site = next(site for site in sites(small) if site.name == name)
            gone = _gone(small, site)
            if gone.any():
                narrow(small, {name: (~gone).nonzero()[:, 0]})
                changed = True
    return small


def _gone(model: nn.Module, site: Site) -> Tensor:
    """Which parts of a site can go, (N,); constants of those are folded into the next layer."""
    tensors = dict(model.named_parameters())
    count = len(site)
    unread = squared_norms(tensors, site.outgoing, count) == 0
    silent = torch.stack([squared_norms(tensors, [part], count) == 0 for part in site.incoming]).any(0)
    emitted = site.emitted().to(unread.device)  # (N, k)
    constant = silent & ~unread & (emitted != 0).any(1)
    gone = unread | silent if site.fold is not None else unread | silent & ~constant
    if gone.all() and site.closing is None:
        gone[int((~unread).float().argmax())] = False  # a chain needs one; a part that still emits, where there is one
    moved = constant & gone
    if moved.any():
        assert site.fold is not None
        for part in site.outgoing:
            weight = tensors[part.name].double()
            taps = weight.flatten(part.axis + 1).sum(-1) if weight.ndim > part.axis + 1 else weight
            values = weight.new_zeros(weight.shape[part.axis])
            values[part.indices[moved.cpu()].to(values.device)] = emitted[moved].double()
            tensors[site.fold].add_((taps @ values).to(tensors[site.fold].dtype))
    return gone


def largest_difference(a: Tensor, b: Tensor) -> float:
    """Largest absolute difference of two outputs over the largest magnitude in them (at least 1)."""
    return ((a - b).abs().max() / torch.maximum(a.abs().max(), b.abs().max()).clamp(min=1)).item()


def widths(model: nn.Module) -> dict[str, int]:
    """Parts of every site that has some."""
    return {site.name: len(site) for site in sites(model)}

"""Groups: slices of parameters, across tensors, that live or die together.

Paper: SSL (Wen et al., NIPS 2016, arXiv 1608.03665), eq. 2 and 3, and what transformers add:

    units       a hidden unit or filter with all that reads it: W_l[n], W_{l+1}[:, n]; of all experts together
    heads       value and output side of an attention head
    sublayers   a whole residual branch: an attention, a feed-forward network, the two convolutions of a residual block
    filters     W_l[n] alone (eq. 2, first term)
    channels    W_{l+1}[:, n] alone (eq. 2, second term)
    shapes      W[:, c, m, k] of every convolution (eq. 3)

The paper learns filters and channels as groups of their own, because a zero filter makes a channel useless; `units`
says so from the start. Biases, queries and keys (`tied`) do not count in the norm but die with the group.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from jaxtyping import Bool, Float
from torch import Tensor, nn

from mote.models.sites import Slice, rows, sites

KINDS = ("units", "heads", "sublayers", "filters", "channels", "shapes")


@dataclass(frozen=True, eq=False)
class Groups:
    """N groups of the same make: group n is row n of the indices of every slice.

    `counted`: weights whose norm is penalised. `scale`: factor on the strength. `size`: counted scalars of one.
    """

    kind: str
    name: str
    counted: tuple[Slice, ...]
    tied: tuple[Slice, ...]
    size: int
    scale: float = 1.0

    def __len__(self) -> int:
        return len(self.counted[0].indices)

    @property
    def weight(self) -> float:
        """Factor on the norm of one group, scale * sqrt(size)."""
        return self.scale * math.sqrt(self.size)


def find_groups(
    model: nn.Module, kinds: Sequence[str], scales: Mapping[str, int | float] | None = None
) -> list[Groups]:
    """The groups of these kinds in `model`, children before parents (by size).

    Args:
        model: with any wrapper around it that has the parameters to be trained.
        kinds: from `KINDS`.
        scales: pattern of a layer's name -> factor on the strength; the first match counts, what matches nothing or has
            0 is left alone. None penalises everything alike.

    Raises:
        ValueError: an unknown kind, a kind that this model has not, or a pattern that matches nothing.
    """
    scales = {"*": 1.0} if scales is None else scales
    if unknown := [kind for kind in kinds if kind not in KINDS]:
        raise ValueError(f"unknown kinds of groups {unknown}; choose among {', '.join(KINDS)}")
    everything = _all_groups(model)
    missing = [kind for kind in kinds if all(groups.kind != kind for groups in everything)]
    if missing:
        there = sorted({groups.kind for groups in everything})
        raise ValueError(f"this network has no {', '.join(missing)}; it has {', '.join(there) or 'no groups at all'}")
    found, used = [], set()
    for groups in everything:
        pattern = next((pattern for pattern in scales if fnmatchcase(groups.name, pattern)), None)
        if groups.kind in kinds and pattern is not None:
            used.add(pattern)
            if scales[pattern]:
                found.append(Groups(**{**vars(groups), "scale": float(scales[pattern])}))
    if idle := [pattern for pattern in scales if pattern not in used]:
        names = sorted({groups.name for groups in everything if groups.kind in kinds})
        raise ValueError(f"the patterns {idle} match no layer with {', '.join(kinds)}; layers are {', '.join(names)}")
    return sorted(found, key=lambda groups: groups.size)


def _all_groups(model: nn.Module) -> list[Groups]:
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}

    def group(kind: str, name: str, counted: Sequence[Slice], tied: Sequence[Slice]) -> Groups:
        trained = tuple(part for part in tied if isinstance(tensors[part.name], nn.Parameter))  # no running statistics
        size = sum(tensors[part.name].numel() // _length(tensors[part.name], part) * part.indices.shape[1]
                   for part in counted)  # fmt: skip
        return Groups(kind, name, tuple(counted), trained, size)

    found = []
    for site in sites(model):
        counted = (*site.incoming, *site.outgoing)
        found.append(group(site.kind, site.name, counted, site.tied))
        if site.kind == "units":
            found.append(group("filters", site.name, site.incoming, site.tied))
            found.append(group("channels", site.outgoing[0].name.removesuffix(".weight"), site.outgoing, ()))
        if site.closing is not None:
            one = [_together(part) for part in counted], [_together(part) for part in site.tied]
            found.append(group("sublayers", site.name, one[0] + [*site.closing[0]], one[1] + [*site.closing[1]]))
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d):
            columns = rows(module.weight[0].numel())
            found.append(group("shapes", name, [Slice(f"{name}.weight", 1, columns, flat=True)], ()))
    return found


def _together(part: Slice) -> Slice:
    return Slice(part.name, part.axis, part.indices.reshape(1, -1), part.flat)


def _length(tensor: Tensor, part: Slice) -> int:
    return tensor[0].numel() if part.flat else tensor.shape[part.axis]


def squared_norms(tensors: Mapping[str, Tensor], parts: Sequence[Slice], count: int) -> Float[Tensor, "N"]:
    """Sum of squares of each group over its slices."""
    total = tensors[parts[0].name].new_zeros(count)
    for part in parts:
        view = tensors[part.name].flatten(part.axis) if part.flat else tensors[part.name]
        squares = view.square().movedim(part.axis, 0).reshape(view.shape[part.axis], -1).sum(1)
        total = total + squares[part.indices.to(squares.device)].sum(1)
    return total


def scale_groups(tensors: Mapping[str, Tensor], groups: Groups, factors: Float[Tensor, "N"]) -> None:
    """Multiply the counted weights of each group by its factor, in place; what is tied dies where the factor is 0."""
    for part in (*groups.counted, *groups.tied):
        view = tensors[part.name].flatten(part.axis) if part.flat else tensors[part.name]
        factor = factors if part in groups.counted else (factors > 0).to(factors)
        along = view.new_ones(view.shape[part.axis])
        along[part.indices.to(view.device)] = factor[:, None].expand(part.indices.shape)
        view.mul_(along.view(-1, *[1] * (view.ndim - 1 - part.axis)))


def alive(tensors: Mapping[str, Tensor], groups: Groups) -> Bool[Tensor, "N"]:
    """Which groups have a counted weight that is not zero."""
    return squared_norms(tensors, groups.counted, len(groups)) > 0

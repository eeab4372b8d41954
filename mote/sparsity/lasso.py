"""Group lasso that reaches zero under AdamW.

Paper: SSL (Wen et al., NIPS 2016), R_g(w) = sum_g ||w_g||_2, here weighted by sqrt of the group's size:

    penalty = strength * sum_g scale_g sqrt(n_g) ||w_g||_2

The authors add its subgradient and cut what is below 1e-4, which zeroes only once the learning rate has fallen. A
proximal step after each AdamW update fails too: the update's noise, lr * sqrt(n_g) a step whatever the gradient, is as
large as the threshold of a step. Dual averaging (Xiao, JMLR 2010; the rule that torchao's prototype PAT optimizer uses
inside one tensor) averages the noise away: with z the weights as if nothing had ever been taken from them,

    z <- z + (update of the optimizer at w),   gamma <- gamma + lr * strength,
    w_g = z_g * max(0, 1 - gamma * scale_g sqrt(n_g) / ||z_g||)

and gradients, momenta and weight decay see w only. Kept is the difference `withheld` = z - w. Under SGD `strength` is
that of the penalty; under AdamW, whose updates are about 1 per coordinate, it is the share of its updates that a group
must agree upon to live: at 1 nothing survives. Groups of one kind do not overlap, and for nested ones (a unit in a
sublayer) scaling children first is the exact proximal step (Jenatton et al., JMLR 2011); for crossing ones (filters and
channels of one tensor) it is an approximation with the same zeros kept.

Schedule, in fractions of the run: nothing before `start`, a linear ramp of length `ramp`, full strength up to `stop`.
Then living groups train on unpenalised and dead ones stay dead: the fine-tuning of the paper, in the same run.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.optim import Optimizer

from mote.sparsity.groups import Groups, alive, scale_groups, squared_norms


def penalty(tensors: Mapping[str, Tensor], groups: Sequence[Groups], strength: int | float) -> Float[Tensor, ""]:
    """strength * sum over groups of scale * sqrt(size) * norm; differentiable but at zero."""
    terms = [family.weight * squared_norms(tensors, family.counted, len(family)).sqrt().sum() for family in groups]
    return strength * torch.stack(terms).sum()


class GroupLasso:
    """The rule above, called after every update of the optimizer.

    Args:
        module: whose parameters the groups name; not wrapped.
        groups: as `find_groups` orders them.
        strength: > 0.
        start, ramp, stop: fractions of the run, see the module; 0 <= start < stop <= 1, ramp >= 0.

    Raises:
        ValueError: a value out of range, no groups.
    """

    def __init__(
        self,
        module: nn.Module,
        groups: Sequence[Groups],
        *,
        strength: float,
        start: float = 0.0,
        ramp: float = 0.1,
        stop: float = 0.7,
    ):
        if not strength > 0 or not 0 <= start < stop <= 1 or ramp < 0 or not groups:
            raise ValueError(
                f"sparsity needs strength > 0, 0 <= start < stop <= 1, ramp >= 0 and groups, got {strength=}, "
                f"{start=}, {ramp=}, {stop=} and {len(groups)} kinds of groups"
            )
        self.groups, self.strength, self.start, self.ramp, self.stop = list(groups), strength, start, ramp, stop
        named = dict(module.named_parameters())
        names = [part.name for family in groups for part in (*family.counted, *family.tied)]
        self.parameters = {name: named[name] for name in dict.fromkeys(names)}
        self.gamma = torch.zeros(len(self.groups), dtype=torch.float64)
        self.withheld: dict[str, Tensor] = {}
        self.living: list[Bool[Tensor, "N"]] = []  # of each family, after the last update with a penalty
        self._places: list[int] = []

    def strength_at(self, fraction: float) -> float:
        """Strength when this fraction of the run is done."""
        if not self.start <= fraction < self.stop:
            return 0.0
        return self.strength * (min(1.0, (fraction - self.start) / self.ramp) if self.ramp else 1.0)

    @torch.no_grad()
    def __call__(self, optimizer: Optimizer, fraction: float) -> dict[str, float]:
        """Shrink the groups after an update; returns {"groups_alive": share}, for the log.

        Args:
            optimizer: whose rates were used; every parameter of one family of groups must have the same.
            fraction: of the run that was done before the update, in [0, 1).

        Raises:
            ValueError: parameters that live or die together have different learning rates, or are not trained.
        """
        if self.start <= fraction < self.stop:
            self._shrink(optimizer, self.strength_at(fraction))
        elif self.living:
            self.withheld.clear()
            for family, living in zip(self.groups, self.living, strict=True):
                scale_groups(self.parameters, family, living.to(torch.float32))
        return {"groups_alive": torch.cat(self.living).float().mean().item()} if self.living else {}

    def _shrink(self, optimizer: Optimizer, strength: float) -> None:
        latent = {}
        for name, parameter in self.parameters.items():
            if name in self.withheld:
                parameter.add_(self.withheld[name].to(parameter.device))
            latent[name] = parameter.detach().clone()
        for i, (family, rate) in enumerate(zip(self.groups, self._rates(optimizer), strict=True)):
            self.gamma[i] += rate * strength
            norms = squared_norms(self.parameters, family.counted, len(family)).sqrt()
            shares = 1 - float(self.gamma[i]) * family.weight / norms
            scale_groups(self.parameters, family, shares.nan_to_num(0.0).clamp(min=0))  # 0 / 0: a zero stays zero
        self.living = [alive(self.parameters, family) for family in self.groups]
        self.withheld = {name: latent[name].sub_(parameter) for name, parameter in self.parameters.items()}

    def _rates(self, optimizer: Optimizer) -> list[float]:
        if not self._places:
            places = {id(p): i for i, group in enumerate(optimizer.param_groups) for p in group["params"]}
            for family in self.groups:
                names = {part.name for part in (*family.counted, *family.tied)}
                found = {name: places.get(id(self.parameters[name])) for name in sorted(names)}
                rates = {None if i is None else optimizer.param_groups[i]["lr"] for i in found.values()}
                if len(rates) != 1 or None in rates:
                    told = {n: "not trained" if i is None else f"group {i}" for n, i in found.items()}
                    raise ValueError(
                        f"{family.kind} of {family.name}: their parameters must all be trained at one learning rate, "
                        "got " + ", ".join(f"{name}: {text}" for name, text in told.items())
                    )
                self._places.append(next(i for i in found.values() if i is not None))
        return [optimizer.param_groups[i]["lr"] for i in self._places]

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs to go on exactly: tensors, lists and dicts only."""
        return {"gamma": self.gamma, "withheld": dict(self.withheld), "living": list(self.living)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over a state.

        Raises:
            ValueError: it belongs to other groups.
        """
        names = set(state["withheld"])
        if len(state["gamma"]) != len(self.groups) or (names and names != set(self.parameters)):
            raise ValueError("the checkpoint was written with other groups; resume with the same sparsity settings")
        self.gamma = state["gamma"].clone()
        self.withheld = {n: t.to(self.parameters[n].device, copy=True) for n, t in state["withheld"].items()}
        self.living = [t.to(next(iter(self.parameters.values())).device) for t in state["living"]]

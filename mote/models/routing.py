"""Routing: which experts of a temporal layer take part in a forward pass, as a value.

Paper: MoTE (Zhu et al., NeurIPS 2024), eq. 5 to 7. A routing is a matrix `(L, E)`, one row per temporal layer, of
non-negative weights summing to one. With i = 1..E the index of an expert:

- `one_expert`: one-hot rows, P(i) = softmax(i / temperature), independent per layer (eq. 5, stochastic routing);
- `random_merge`: softmax(i / tau) with tau drawn per layer from a finite set (eq. 7, weight-merging regularisation);
- `uniform_merge`: 1 / E everywhere (eq. 6, inference);
- `same_expert`: the expert of one number in every layer.

Rows are drawn on the CPU from a generator that the caller owns, so that runs repeat and processes can be synchronised.
"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor


def merge_temperatures(beta: float = 0.6, levels: int = 5) -> tuple[float, ...]:
    """The set of tau for `random_merge`: ±beta * 2^n for n = 0..levels-1, and infinity (the uniform merge).

    Args:
        beta: smallest positive temperature, > 0; the paper's is 0.6.
        levels: how many times beta is doubled, plus one; >= 0. 0 leaves infinity only.

    Raises:
        ValueError: when beta or levels is out of range.
    """
    if not beta > 0 or levels < 0:
        raise ValueError(f"beta must be > 0 and levels >= 0, got beta={beta} and levels={levels}")
    positive = tuple(beta * 2**n for n in range(levels))
    return (*(-tau for tau in reversed(positive)), *positive, math.inf)


DEFAULT_TEMPERATURES = merge_temperatures()


def expert_weights(num_experts: int, temperature: float) -> Float[Tensor, "E"]:
    """softmax(i / temperature) over i = 1..E: late experts weigh most for small positive temperatures.

    Args:
        num_experts: E >= 1.
        temperature: any number but 0; negative reverses the order, infinity gives 1 / E.

    Raises:
        ValueError: when E < 1 or the temperature is 0 or not a number.
    """
    if num_experts < 1:
        raise ValueError(f"num_experts must be at least 1, got {num_experts}")
    if temperature == 0 or math.isnan(temperature):
        raise ValueError(f"a routing temperature must be a number other than 0, got {temperature}")
    return torch.softmax(torch.arange(1, num_experts + 1, dtype=torch.float32) / temperature, dim=0)


def draw_depth(num_layers: int, rate: float, generator: torch.Generator) -> Float[Tensor, "L 2"]:
    """Factors on what attention and experts of every layer add: 0 with probability `rate`, else 1 / (1 - rate).

    Stochastic depth (Huang et al., ECCV 2016, eq. 2), drawn once for a whole batch. What is left out is multiplied by
    zero, so that every parameter keeps a gradient, as training on several processes needs.

    Args:
        num_layers: L.
        rate: in [0, 1).
        generator: on the CPU.

    Raises:
        ValueError: a rate out of range.
    """
    if not 0 <= rate < 1:
        raise ValueError(f"expected a rate of at least 0 and below 1, got {rate}")
    kept = torch.rand(num_layers, 2, generator=generator) >= rate
    return kept / (1 - rate)


def one_expert(
    num_layers: int, num_experts: int, generator: torch.Generator, temperature: float = 1.0
) -> Float[Tensor, "L E"]:
    """One expert per layer, drawn with P(i) = softmax(i / temperature): one-hot rows on the CPU.

    The generator must live on the CPU. Raises ValueError as `expert_weights`.
    """
    weights = expert_weights(num_experts, temperature)
    chosen = torch.multinomial(weights, num_layers, replacement=True, generator=generator)
    return torch.nn.functional.one_hot(chosen, num_experts).float()


def random_merge(
    num_layers: int,
    num_experts: int,
    generator: torch.Generator,
    temperatures: Sequence[float] = DEFAULT_TEMPERATURES,
) -> Float[Tensor, "L E"]:
    """Rows softmax(i / tau), tau drawn uniformly from `temperatures` for each layer, on the CPU.

    The generator must live on the CPU. Raises ValueError for an empty set, and as `expert_weights`.
    """
    if not temperatures:
        raise ValueError("random_merge needs at least one temperature, got none")
    table = torch.stack([expert_weights(num_experts, tau) for tau in temperatures])
    return table[torch.randint(len(temperatures), (num_layers,), generator=generator)]


def uniform_merge(num_layers: int, num_experts: int) -> Float[Tensor, "L E"]:
    """1 / E everywhere: the mean of the experts, used for inference. Draws nothing."""
    return torch.full((num_layers, num_experts), 1.0 / num_experts)


def same_expert(num_layers: int, num_experts: int, index: int) -> Float[Tensor, "L E"]:
    """Expert `index` (0..E-1) of every layer: one-hot rows. Draws nothing."""
    return torch.eye(num_experts)[index].expand(num_layers, num_experts)

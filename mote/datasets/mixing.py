"""Mixed-sample augmentation: Mixup, CutMix, HMix and GMix for images and clips, each a mask.

Papers: Zhang et al., ICLR 2018 (Mixup); Yun et al., ICCV 2019 (CutMix); Park, Yun, Chun, NeurIPS 2022 (HMix, GMix).
With x_j the partner of x_i, M in [0, 1] the mask of the pair and lambda_0 ~ Beta(alpha, alpha):

    x' = M x_i + (1 - M) x_j,      y' = lambda y_i + (1 - lambda) y_j,      lambda = mean(M)

    mixup    M = lambda_0
    cutmix   M = 0 in a box of volume 1 - lambda_0 around a random pixel, cut at the border; 1 outside
    hmix     M = 0 in such a box of volume r (1 - lambda_0); outside the number that makes mean(M) = lambda_0
    gmix     M = G(lambda_0) where lambda_0 < 1/2, else 1 - G(1 - lambda_0);   G(p) has its peak of 1 at a random pixel
             and is the Gaussian whose integral over the infinite plane is p times the size of the image

`masks` does not tell images from clips: it fills a grid of any number d of axes. A box has sides N_k v^(1/d), and
G = exp(-pi p^(-2/d) sum_k ((i_k - c_k) / N_k)^2), so that the same lines give the square and the rectangular image,
a stretch of time (d = 1) and a cuboid or a Gaussian in space and time (d = 3). Which axes of a clip the mask has is its
`extent`: with "space" all frames share one mask.

Deviations from the release: lambda is the mean of the mask that was used, also where GMix or a box runs over the
border; images need not be square, nor batches even; each sample may have its own lambda, box and method; partners
form one random cycle through the batch, so that nobody is mixed with itself. Boxes have even sides, as there.

Where the pixels are uint8 the result is float32 in the same range. Normalisation is affine and M + (1 - M) = 1, so
mixing before it gives what mixing after it would, without rounding, and in one pass over the memory.

Randomness: `Mixer` draws from the generator it is given, which the training loop derives from (seed, step, micro
step, process) like all others (`training.seeds`). So there is no generator whose state a checkpoint would have to
hold: a resumed run draws what the interrupted one would have drawn, and switching mixing on moves neither the data
order, nor dropout, nor routing.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int64, Num
from torch import Tensor
from torch.nn import functional as F

EXTENTS = {"space": (1, 2), "spacetime": (0, 1, 2), "time": (0,)}  # which of the axes (T, H, W) a mask varies over


def mixup(lam: Float[Tensor, "N"], centre: Float[Tensor, "N d"], shape: Sequence[int], ratio: float) -> Tensor:
    """The same number everywhere: (N, 1, ..., 1), d ones."""
    return lam.view(-1, *[1] * len(shape))


def cutmix(lam: Float[Tensor, "N"], centre: Float[Tensor, "N d"], shape: Sequence[int], ratio: float) -> Tensor:
    """1 outside a box, 0 inside: (N, *shape)."""
    return _outside(1 - lam, centre, shape)


def hmix(lam: Float[Tensor, "N"], centre: Float[Tensor, "N d"], shape: Sequence[int], ratio: float) -> Tensor:
    """0 in a box of `ratio` times the volume of CutMix's, lam / (share outside) outside: (N, *shape)."""
    outside = _outside(ratio * (1 - lam), centre, shape)
    share = outside.flatten(1).mean(dim=1)  # 0 where the box is everything: then there is no outside to fill
    return outside * (lam / share.clamp(min=1e-12)).clamp(max=1).view(-1, *[1] * len(shape))


def gmix(lam: Float[Tensor, "N"], centre: Float[Tensor, "N d"], shape: Sequence[int], ratio: float) -> Tensor:
    """A Gaussian bump of x_i in x_j (lam < 1/2), or of x_j in x_i: (N, *shape)."""
    small = torch.minimum(lam, 1 - lam)
    exponent = lam.new_zeros(1)
    for axis, size in enumerate(shape):
        position = torch.arange(size, device=lam.device)
        offset = (position - (centre[:, axis] * size).floor()[:, None]) / size  # (N, size)
        exponent = exponent + _along(offset.square(), axis, len(shape))
    width = small.clamp(min=1e-12) ** (2 / len(shape))
    bump = torch.exp(-torch.pi * exponent / _along(width[:, None], 0, len(shape)))
    bump = bump * _along((small > 0).to(bump)[:, None], 0, len(shape))  # its limit: nothing, not one pixel
    return torch.where(_along((lam < 0.5)[:, None], 0, len(shape)), bump, 1 - bump)


Mask = Callable[[Float[Tensor, "N"], Float[Tensor, "N d"], Sequence[int], float], Tensor]
METHODS: dict[str, Mask] = {"mixup": mixup, "cutmix": cutmix, "hmix": hmix, "gmix": gmix}


def mix(
    x: Num[Tensor, "B *shape"], mask: Float[Tensor, "B *broadcast"], partner: Int64[Tensor, "B"]
) -> Float[Tensor, "B *shape"]:
    """mask * x + (1 - mask) * x[partner], floating point; exactly one of the two where the mask is 0 or 1."""
    kind = x.dtype if x.is_floating_point() else torch.float32
    return torch.lerp(x[partner].to(kind), x.to(kind), mask.to(kind))


@dataclass(frozen=True)
class Mixer:
    """batch, generator -> batch with mixed pixels and a soft target.

    methods: names of `METHODS`, one of which is drawn with equal chance. num_classes: K. alpha: of the Beta, > 0.
    ratio: r of HMix, in (0, 1]; 1 is nearly CutMix, 0 would be Mixup. extent: see above. probability: of being mixed.
    per_sample: method, lambda_0 and centre are drawn for every sample; else once for the batch.

    Raises:
        ValueError: a value outside these.
    """

    methods: Sequence[str]
    num_classes: int
    alpha: float = 1.0
    ratio: float = 0.5
    extent: str = "space"
    probability: float = 1.0
    per_sample: bool = True

    def __post_init__(self):
        unknown = sorted(set(self.methods) - set(METHODS))
        if unknown or not self.methods:
            raise ValueError(f"mixing methods {list(self.methods)}: choose among {', '.join(METHODS)}")
        if self.extent not in EXTENTS:
            raise ValueError(f"mixing extent {self.extent!r}: choose one of {', '.join(EXTENTS)}")
        if not (self.alpha > 0 and 0 < self.ratio <= 1 and 0 <= self.probability <= 1):
            raise ValueError(
                "expected alpha > 0, ratio in (0, 1] and probability in [0, 1], got "
                f"{self.alpha}, {self.ratio} and {self.probability}"
            )

    def __call__(self, batch: Mapping[str, Tensor], rng: np.random.Generator) -> dict[str, Tensor]:
        """The batch with mixed `frames` (B, T, C, H, W) or `images` (B, C, H, W), and `target` (B, K).

        A `target` that is already there is mixed; else `label` (B,) becomes one. A clip with `valid` false keeps to
        itself and is nobody's partner. Call it once per step: all passes over the batch then see the same mixture.

        Raises:
            ValueError: a mask over time on images.
        """
        key = "frames" if "frames" in batch else "images"
        x, device = batch[key], batch["label"].device
        if key == "images" and self.extent != "space":
            raise ValueError(f"mixing extent {self.extent!r} is for clips; images need 'space'")
        cycle = rng.permutation(len(x))
        order = np.empty_like(cycle)
        order[cycle] = np.roll(cycle, 1)
        partner = torch.from_numpy(order).to(device)
        frames = x.shape[1] if key == "frames" else 1
        mask = self.masks(len(x), (frames, *x.shape[-2:]), rng, device)  # (B, T or 1, H or 1, W or 1)
        if "valid" in batch:
            both = batch["valid"] & batch["valid"][partner]
            mask = torch.where(both.view(-1, 1, 1, 1), mask, 1.0)
        lam = mask.flatten(1).mean(dim=1)
        target = batch.get("target")
        if target is None:
            target = F.one_hot(batch["label"], self.num_classes).float()
        mixed = mix(x, mask if key == "images" else mask.unsqueeze(2), partner)  # one mask for all channels
        return {**batch, key: mixed, "target": mix(target, lam[:, None], partner)}

    def masks(
        self, count: int, size: Sequence[int], rng: np.random.Generator, device: torch.device | str = "cpu"
    ) -> Float[Tensor, "N t h w"]:
        """Masks for `count` samples of `size` (T, H, W); axes outside the extent have length 1."""
        draws = count if self.per_sample else 1
        choice: np.ndarray = np.broadcast_to(rng.integers(len(self.methods), size=draws), count)
        lam = np.where(rng.random(draws) < self.probability, rng.beta(self.alpha, self.alpha, draws), 1.0)
        centre = rng.random((draws, 3), dtype=np.float32)  # float32 here: below 1 for sure
        numbers = np.broadcast_to(np.concatenate([lam[:, None], centre], axis=1), (count, 4)).astype(np.float32)
        values = torch.from_numpy(numbers).to(device)  # the only copy to the device
        axes = EXTENTS[self.extent]
        shape = [size[axis] for axis in axes]
        masks = values.new_empty(count, *shape)
        for number, name in enumerate(self.methods):
            rows = torch.from_numpy(np.flatnonzero(choice == number)).to(device)
            lam, centre = values[rows, 0], values[rows][:, [1 + axis for axis in axes]]
            made = METHODS[name](lam, centre, shape, self.ratio)
            masks[rows] = made.expand(len(rows), *shape)
        return masks.view(count, *(size[axis] if axis in axes else 1 for axis in range(3)))


def _outside(volume: Float[Tensor, "N"], centre: Float[Tensor, "N d"], shape: Sequence[int]) -> Float[Tensor, "N *s"]:
    """1 outside a box of that share of the grid around `centre` (in [0, 1) of every axis), 0 inside."""
    inside = torch.ones(1, dtype=torch.bool, device=volume.device)
    for axis, size in enumerate(shape):
        half = (size * volume ** (1 / len(shape))).floor().div(2, rounding_mode="floor")[:, None]
        middle = (centre[:, axis] * size).floor()[:, None]
        position = torch.arange(size, device=volume.device)
        near = (position >= middle - half) & (position < middle + half)  # (N, size)
        inside = inside & _along(near, axis, len(shape))
    return (~inside).to(volume.dtype)


def _along(values: Tensor, axis: int, axes: int) -> Tensor:
    """(N, size) -> (N, 1, ..., size, ..., 1) with `size` on the given one of `axes` axes."""
    return values.view(len(values), *(values.shape[1] if k == axis else 1 for k in range(axes)))

"""Mixing masks written from the papers, one pixel at a time (Mixup, CutMix, HMix, GMix of Park, Yun, Chun, 2022).

`shape` is the grid, `centre` a pixel of it, `lam` the lambda drawn from the Beta distribution.
"""

import itertools
import math


def box(volume: float, centre, shape) -> list[tuple[int, int]]:
    """Half-open sides of the box: 2 * floor(floor(N v^(1/d)) / 2) long, around the centre, cut at the border."""
    sides = []
    for c, n in zip(centre, shape, strict=True):
        half = int(n * volume ** (1 / len(shape))) // 2
        sides.append((max(c - half, 0), min(c + half, n)))
    return sides


def mask(method: str, lam: float, centre, shape, ratio: float) -> dict[tuple[int, ...], float]:
    """{pixel: M}."""
    pixels = list(itertools.product(*(range(n) for n in shape)))
    if method == "mixup":
        return dict.fromkeys(pixels, lam)
    if method == "gmix":
        small = lam if lam < 0.5 else 1 - lam
        values = {}
        for pixel in pixels:
            square = sum(((i - c) / n) ** 2 for i, c, n in zip(pixel, centre, shape, strict=True))
            bump = math.exp(-math.pi * square / small ** (2 / len(shape))) if small > 0 else 0.0
            values[pixel] = bump if lam < 0.5 else 1 - bump
        return values
    sides = box((1 - lam) * (ratio if method == "hmix" else 1), centre, shape)
    inside = {p for p in pixels if all(low <= i < high for i, (low, high) in zip(p, sides, strict=True))}
    share = 1 - len(inside) / len(pixels)
    outside = 1.0 if method == "cutmix" else (lam / share if share else 0.0)
    return {p: 0.0 if p in inside else outside for p in pixels}

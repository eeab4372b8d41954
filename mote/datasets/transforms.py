"""Whole clips of uint8 frames to the size a model takes; one draw per clip; normalisation happens on the device.

Training (the augmentation of Text4Vis, BIKE and MoTE): random-resized crop (area `scale`, log-uniform aspect `ratio`;
Szegedy et al. 2015) straight to `size`, flip, grayscale. Testing: as the network's own preprocessing says, by default
that of CLIP: short side to `size`, then the central square, or three squares along the longer side.

The filter is the network's too, antialiased, on uint8: PIL's, whose values it meets within one or two of 255 levels.
Sizes and places are rounded as open_clip and torchvision do.
"""

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor
from torch.nn import functional

from mote.files.preprocessing import AS_CLIP, Preprocessing

LUMA = (19595, 38470, 7471)  # ITU-R BT.601 weights .299, .587, .114 in 1/65536, as in PIL's mode "L"


def train_transform(
    frames: UInt8[np.ndarray, "T H W 3"],
    size: int,
    rng: np.random.Generator,
    *,
    scale: tuple[float, float] = (0.08, 1.0),
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
    flip: float = 0.5,
    grayscale: float = 0.2,
    preprocessing: Preprocessing = AS_CLIP,
) -> UInt8[Tensor, "T 3 S S"]:
    """Random-resized crop, flip with probability `flip`, grey with probability `grayscale`, the same for all frames.

    `scale`: range of the crop's share of the area; `ratio`: range of width / height. Set flip=0 where left and right
    carry meaning. The number of draws from `rng` for flip and grey does not depend on their outcome. Of `preprocessing`
    the filter counts.
    """
    top, left, height, width = random_region(frames.shape[1], frames.shape[2], rng, scale, ratio)
    flipped, grey = rng.random(2) < (flip, grayscale)
    clip = _resize(frames[:, top : top + height, left : left + width], (size, size), preprocessing)
    if flipped:
        clip = clip.flip(-1)
    return to_grey(clip) if grey else clip


def eval_transform(
    frames: UInt8[np.ndarray, "T H W 3"],
    size: int,
    crops: int = 1,
    preprocessing: Preprocessing = AS_CLIP,
    *,
    quarters: bool = False,
) -> UInt8[Tensor, "V T 3 S S"]:
    """Each frame as a square, or `crops` = 3: first, middle and last square along the longer side; V = crops.

    First is left for landscape frames and top for portrait ones. Several squares are cut from frames whose short side
    is `size`, also where one would be squashed or get bars.

    quarters: three squares lie where the code of Text4Vis, BIKE and MoTE cuts them: 0, 2 and 4 whole quarters of what
    is left over in width from the left, 2 of what is left over in height from the top. The last one ends up to 3 pixels
    before the edge, and those of portrait frames are all in the middle.
    """
    if crops not in (1, 3):
        raise ValueError(f"crops must be 1 or 3, got {crops}")
    height, width = frames.shape[1:3]
    if preprocessing.resize == "crop":
        side = min(height, width)
        places = _corners((height - side, width - side), crops, int, quarters)
        parts = [frames[:, top : top + side, left : left + side] for top, left in places]
        return torch.stack([_resize(part, (size, size), preprocessing) for part in parts])
    mode = preprocessing.resize if crops == 1 else "shortest"
    clip = _with_bars(_resize(frames, resized(height, width, size, mode), preprocessing), size, preprocessing.fill)
    places = _corners((clip.shape[-2] - size, clip.shape[-1] - size), crops, round, quarters)
    return torch.stack([clip[..., top : top + size, left : left + size] for top, left in places])


def _corners(over: tuple[int, int], crops: int, whole: Callable[[float], int], quarters: bool) -> list[tuple[int, int]]:
    """(top, left) of the squares that are cut where (height, width) are `over`; see `eval_transform`."""
    if quarters and crops == 3:
        return [(2 * (over[0] // 4), step * (over[1] // 4)) for step in (0, 2, 4)]
    steps = (0.5,) if crops == 1 else (0.0, 0.5, 1.0)
    return [(whole(over[0] * step), whole(over[1] * step)) for step in steps]


def resized(height: int, width: int, size: int, mode: str) -> tuple[int, int]:
    """(height, width) of a whole frame after resizing, before squares are cut; `mode`: see `Preprocessing.resize`."""
    if mode == "squash":
        return size, size
    if mode == "longest":
        ratio = max(height, width) / size
        return max(1, round(height / ratio)), max(1, round(width / ratio))
    return (size, int(size * width / height)) if height <= width else (int(size * height / width), size)


def random_region(
    height: int, width: int, rng: np.random.Generator, scale: tuple[float, float], ratio: tuple[float, float]
) -> tuple[int, int, int, int]:
    """(top, left, height, width) of a random-resized crop; after ten misfits the largest central one within `ratio`."""
    for _ in range(10):
        area = height * width * rng.uniform(*scale)
        aspect = np.exp(rng.uniform(*np.log(ratio)))
        h, w = round(np.sqrt(area / aspect)), round(np.sqrt(area * aspect))
        if 0 < h <= height and 0 < w <= width:
            return int(rng.integers(height - h + 1)), int(rng.integers(width - w + 1)), h, w
    h = min(height, max(1, round(width / min(ratio))))
    w = min(width, max(1, round(height * max(ratio))))
    return (height - h) // 2, (width - w) // 2, h, w


def to_grey(clip: UInt8[Tensor, "T 3 H W"]) -> UInt8[Tensor, "T 3 H W"]:
    """Luma in all three channels, rounded as PIL does."""
    red, green, blue = clip.to(torch.int32).unbind(1)
    luma = (red * LUMA[0] + green * LUMA[1] + blue * LUMA[2] + 0x8000) >> 16
    return luma.to(torch.uint8)[:, None].repeat(1, 3, 1, 1)


def subtract_frames(pairs: UInt8[Tensor, "*V P 3 S S"]) -> UInt8[Tensor, "*V T 3 S S"]:
    """128 + later - earlier, clipped to 0..255, of T earlier frames followed by their T later ones, P = 2 T.

    The RGB difference of Wang et al. (Temporal Segment Networks, 2016, section 3.2) as an image: what stands still is
    mid-grey whatever it looks like, so that a network cannot recognise the scene.
    """
    earlier, later = pairs.to(torch.int16).chunk(2, dim=-4)
    return (later - earlier + 128).clamp_(0, 255).to(torch.uint8)


def _with_bars(clip: UInt8[Tensor, "T 3 H W"], size: int, colour: tuple[int, int, int]) -> UInt8[Tensor, "T 3 h w"]:
    """The clip in the middle of a `size` x `size` field of one colour, where it is smaller than that."""
    height, width = clip.shape[-2:]
    if min(height, width) >= size:
        return clip
    field = torch.tensor(colour, dtype=torch.uint8).repeat(len(clip), max(height, size), max(width, size), 1)
    field = field.permute(0, 3, 1, 2)
    top, left = max(0, size - height) // 2, max(0, size - width) // 2
    field[..., top : top + height, left : left + width] = clip
    return field


def _resize(
    frames: UInt8[np.ndarray, "T H W 3"], shape: tuple[int, int], preprocessing: Preprocessing
) -> UInt8[Tensor, "T 3 h w"]:
    """(T, H, W, 3) to (T, 3, *shape), whose pixels stay interleaved in memory (channels_last).

    torch resizes interleaved pixels three times as fast as planes.
    """
    clip = torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2)  # torch copies regions more slowly
    if clip.shape[-2:] == shape:
        return clip
    return functional.interpolate(clip, size=shape, mode=preprocessing.interpolation, antialias=True)

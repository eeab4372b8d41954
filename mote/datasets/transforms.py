"""Whole clips of uint8 frames to the size a model takes; one draw per clip; normalisation happens on the device.

Training (the augmentation of Text4Vis, BIKE and MoTE): short side to 256, random-resized crop (area `scale`,
log-uniform aspect `ratio`; Szegedy et al. 2015), flip, grayscale. Testing: short side to `size`, central square, or
three squares along the longer side.

Both resize the cropped region straight to `size` instead of resizing the frame and cropping the result: the same
region of the image, fewer pixels, one interpolation instead of two. In testing the result is that of resize-then-crop
but for a shift by the fraction of a pixel that rounding costs there, and for the outermost pixels, where the filter
sees no further: 1.5 of 255 levels on average over 58 real clips. The training crop skips the 256-pixel stage.

Filter: bilinear with antialiasing, on uint8 (PIL's, within one level).
"""

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor
from torch.nn import functional

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
) -> UInt8[Tensor, "T 3 S S"]:
    """Random-resized crop, flip with probability `flip`, grey with probability `grayscale`, the same for all frames.

    `scale`: range of the crop's share of the area; `ratio`: range of width / height. Set flip=0 where left and right
    carry meaning. The number of draws from `rng` for flip and grey does not depend on their outcome.
    """
    top, left, height, width = random_region(frames.shape[1], frames.shape[2], rng, scale, ratio)
    flipped, grey = rng.random(2) < (flip, grayscale)
    clip = _resize(frames[:, top : top + height, left : left + width], size)
    if flipped:
        clip = clip.flip(-1)
    return to_grey(clip) if grey else clip


def eval_transform(frames: UInt8[np.ndarray, "T H W 3"], size: int, crops: int = 1) -> UInt8[Tensor, "V T 3 S S"]:
    """The central square of each frame, or `crops` = 3: first, middle and last square along the longer side; V = crops.

    First is left for landscape frames and top for portrait ones.
    """
    if crops not in (1, 3):
        raise ValueError(f"crops must be 1 or 3, got {crops}")
    height, width = frames.shape[1:3]
    side = min(height, width)
    views = []
    for step in (1,) if crops == 1 else (0, 1, 2):
        top, left = (height - side) * step // 2, (width - side) * step // 2
        views.append(_resize(frames[:, top : top + side, left : left + side], size))
    return views[0][None] if crops == 1 else torch.stack(views)


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


def _resize(frames: UInt8[np.ndarray, "T H W 3"], size: int) -> UInt8[Tensor, "T 3 S S"]:
    """(T, H, W, 3) to (T, 3, size, size), whose pixels stay interleaved in memory (channels_last).

    torch resizes interleaved pixels three times as fast as planes.
    """
    clip = torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2)  # torch copies regions more slowly
    if clip.shape[-2:] == (size, size):
        return clip
    return functional.interpolate(clip, size=(size, size), mode="bilinear", antialias=True)

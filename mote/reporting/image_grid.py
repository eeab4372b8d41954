"""Images side by side in one PNG."""

from pathlib import Path

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from mote.files.writing import replacing


def write_image_grid(path: Path, images: Float[Tensor, "N C S S"], columns: int, scale: int = 2) -> None:
    """Write N images with values in [0, 1], row by row, each pixel `scale` times as large; whole or not at all."""
    padded = F.pad(images.float().cpu().clamp(0, 1), (1, 1, 1, 1), value=0.5)
    padded = F.pad(padded, (0, 0, 0, 0, 0, 0, 0, -len(images) % columns), value=1.0)
    rows = padded.unflatten(0, (-1, columns))  # (R, columns, C, S + 2, S + 2)
    sheet = rows.permute(0, 3, 1, 4, 2).flatten(2, 3).flatten(0, 1)  # (H, W, C)
    sheet = sheet.repeat_interleave(scale, 0).repeat_interleave(scale, 1)
    pixels = (255 * sheet).round().to(torch.uint8).numpy()
    with replacing(path) as temporary:
        Image.fromarray(pixels.squeeze(-1) if pixels.shape[-1] == 1 else pixels).save(temporary, format="PNG")

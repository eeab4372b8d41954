"""Images side by side in one PNG."""

import base64
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw
from torch import Tensor
from torch.nn import functional as F

from mote.files.writing import replacing

LABEL = 14  # pixels of the text beside a row
LONGEST = 24  # letters of it


def write_image_grid(
    path: Path, images: Float[Tensor, "N C S S"], columns: int, scale: int = 2, rows: Sequence[str] = ()
) -> None:
    """Write N images with values in [0, 1], row by row, each pixel `scale` times as large; whole or not at all.

    rows: what each row shows, written beside it; none leaves no room for words.
    """
    sheet = Image.fromarray(grid_pixels(images, columns, scale))
    if rows:
        sheet = _beside(sheet, rows, -(-len(images) // columns))
    with replacing(path) as temporary:
        sheet.save(temporary, format="PNG")


def grid_pixels(images: Float[Tensor, "N C S S"], columns: int, scale: int) -> UInt8[np.ndarray, "H W *C"]:
    """The sheet as pixels, grey without a last dimension; places without an image are white."""
    padded = F.pad(images.float().cpu().clamp(0, 1), (1, 1, 1, 1), value=0.5)
    padded = F.pad(padded, (0, 0, 0, 0, 0, 0, 0, -len(images) % columns), value=1.0)
    rows = padded.unflatten(0, (-1, columns))  # (R, columns, C, S + 2, S + 2)
    sheet = rows.permute(0, 3, 1, 4, 2).flatten(2, 3).flatten(0, 1)  # (H, W, C)
    sheet = sheet.repeat_interleave(scale, 0).repeat_interleave(scale, 1)
    pixels = (255 * sheet).round().to(torch.uint8).numpy()
    return pixels.squeeze(-1) if pixels.shape[-1] == 1 else pixels


def png_uri(pixels: UInt8[np.ndarray, "H W *C"]) -> str:
    """Pixels as a data URI."""
    data = BytesIO()
    Image.fromarray(pixels).save(data, format="PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(data.getvalue()).decode('ascii')}"


def _beside(sheet: Image.Image, rows: Sequence[str], count: int) -> Image.Image:
    """The sheet with a margin at the left that holds the words of each row."""
    words = [text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}\N{HORIZONTAL ELLIPSIS}" for text in rows]
    draw = ImageDraw.Draw(sheet)
    margin = int(max(draw.textlength(text, font_size=LABEL) for text in words)) + 16
    named = Image.new(sheet.mode, (sheet.width + margin, sheet.height), "white")
    named.paste(sheet, (margin, 0))
    draw, height = ImageDraw.Draw(named), sheet.height / count
    for row, text in enumerate(words):
        draw.text((margin - 8, (row + 0.5) * height), text, fill="black", anchor="rm", font_size=LABEL)
    return named

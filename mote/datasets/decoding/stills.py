"""Still images as they are shown: upright, in 8 bits a channel, or an error that says why not.

- The EXIF orientation is applied, as viewers do.
- 16-bit images are scaled by the range of their type: the high byte is kept, as Pillow does for colours.
- Floats, signed and 32-bit integers are refused: their range stands nowhere in the file.
- Transparency is left out: the colours below it are kept, as the transforms of CLIP do.
- Files that hold several images, such as an animated GIF, are refused: they are videos, or pages. An MPO holds one
  image and other versions of it, as cameras write it.
"""

from contextlib import nullcontext, suppress
from io import BytesIO
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.TiffImagePlugin import TiffImageFile

BROKEN = (OSError, ValueError, SyntaxError, OverflowError, Image.DecompressionBombError)  # of Pillow, damaged files
BITS_PER_SAMPLE, PHOTOMETRIC, SAMPLE_FORMAT = 258, 262, 339  # TIFF tags
WHITE_IS_ZERO, UNSIGNED = 0, 1  # values of the last two
RANGES = {"F": "floats", "I": "integers of 32 bits", "signed": "signed integers"}  # modes whose range is not known


def read_still(file: Path | BytesIO, channels: int = 3) -> UInt8[np.ndarray, "H W C"]:
    """Pixels of an image file, in RGB or, with one channel, in grey.

    Raises:
        ValueError: in a few words, where it is no image, is damaged, or is of a kind that cannot be shown as one.
    """
    try:
        # From an open file: Pillow maps one that it opens by name, and then scrambles a TIFF that is to be turned.
        with nullcontext(file) if isinstance(file, BytesIO) else file.open("rb") as source, Image.open(source) as image:
            count = getattr(image, "n_frames", 1)
            if count > 1 and image.format != "MPO":
                raise ValueError(f"it holds {count} images; give it as a video, or each of them as a file")
            levels = _levels(image)
            shown = _upright(image)
            if levels is not None:
                shown = Image.fromarray(levels[np.array(shown)])
            elif (shown.mode == "P" and "transparency" in shown.info) or shown.mode in ("RGBa", "La"):
                shown = shown.convert("RGBA" if shown.mode != "La" else "LA")
            pixels = np.array(shown.convert("RGB" if channels == 3 else "L"))
    except BROKEN as error:
        cause = "it is no image" if isinstance(error, UnidentifiedImageError) else str(error) or type(error).__name__
        raise ValueError(cause) from error
    return pixels.reshape(*pixels.shape[:2], channels)


def _levels(image: Image.Image) -> UInt8[np.ndarray, "V"] | None:
    """The grey level of every value of an image of one channel with more than 8 bits; None for other images.

    Raises:
        ValueError: the range of its values is not known.
    """
    tags = image.tag_v2 if isinstance(image, TiffImageFile) else {}
    kind = image.mode
    if UNSIGNED not in (formats := tags.get(SAMPLE_FORMAT, (UNSIGNED,))) and kind != "F":
        kind = "signed" if 2 in formats else "F"
    if kind == "I" and image.format in ("PNG", "PPM"):  # which have 16 bits at most; Pillow scales PPM to them
        kind = "I;16"
    if kind in RANGES:
        raise ValueError(f"its pixels are {RANGES[kind]}, whose range is not known; convert it to 8 or 16 bits")
    if not kind.startswith("I;16"):
        return None
    bits = int(tags.get(BITS_PER_SAMPLE, (16,))[0])
    levels = (np.arange(2**16) >> (bits - 8)).clip(max=255).astype(np.uint8)
    return 255 - levels if tags.get(PHOTOMETRIC) == WHITE_IS_ZERO else levels


def _upright(image: Image.Image) -> Image.Image:
    """The image turned as its EXIF orientation says; one that cannot be understood says nothing."""
    image.load()
    with suppress(*BROKEN, LookupError, TypeError):
        return ImageOps.exif_transpose(image)
    return image

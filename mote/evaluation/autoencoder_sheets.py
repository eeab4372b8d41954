"""Sheets of images of an autoencoder: samples, reconstructions, and the way from one image to another."""

from collections.abc import Mapping
from pathlib import Path

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from mote.inference.latent import LatentModel
from mote.regularizers.gaussian_mixture import interpolate
from mote.reporting.autoencoder_page import Sheet
from mote.reporting.image_grid import write_image_grid

ACROSS = 10  # images of a row


@torch.inference_mode()
def sheets_of(
    latent: LatentModel,
    images: Float[Tensor, "n C S S"],
    codes: Float[Tensor, "N d"],
    shown: Int64[Tensor, "n"],
    seed: int,
) -> dict[str, Sheet]:
    """Samples (a row of ten for each mode), reconstructions (ten images above what came back of them, at most five
    times) and interpolations (ten pairs at random, ten steps), by name.

    Args:
        latent: the autoencoder and its prior.
        images: held-out ones in [0, 1].
        codes: of all N held-out images.
        shown: which of those `images` are.
        seed: of the samples.
    """
    generator = torch.Generator().manual_seed(seed)
    num_modes = len(latent.prior.priors)
    modes = torch.arange(num_modes if num_modes > 1 else ACROSS).repeat_interleave(ACROSS) % num_modes
    samples = torch.cat([pixels for _, pixels in latent.draw(modes, generator)])
    device = next(latent.model.parameters()).device
    codes = codes[shown]
    columns = min(ACROSS, len(images))
    above = images[: min(len(images) // columns, 5) * columns]
    back = latent.model.decode(codes[: len(above)].to(device)).float().cpu()
    rows = [row for pair in zip(above.split(columns), back.split(columns), strict=True) for row in pair]
    pairs = min(ACROSS, len(codes) // 2)
    lines = interpolate(codes[:pairs], codes[pairs : 2 * pairs], ACROSS).flatten(0, 1)
    between = latent.model.decode(lines.to(device)).float().cpu()
    named = [f": {name}" for name in latent.classes] if latent.conditional else [""] * num_modes
    of_modes = [f"mode {mode}{named[mode]}" for mode in range(num_modes)] if num_modes > 1 else ["the prior"] * ACROSS
    return {
        "samples": Sheet(samples, ACROSS, of_modes),
        "reconstructions": Sheet(torch.cat(rows), columns, ["held-out image", "what came back"] * (len(rows) // 2)),
        "interpolations": Sheet(between, ACROSS, [f"pair {pair + 1}" for pair in range(pairs)]),
    }


def write_sheets(out: Path, name: str, sheets: Mapping[str, Sheet]) -> list[Path]:
    """Write each sheet to NAME_kind.png, words beside its rows; returns the paths."""
    paths = [out / f"{name}_{kind}.png" for kind in sheets]
    for path, sheet in zip(paths, sheets.values(), strict=True):
        write_image_grid(path, sheet.images, sheet.columns, rows=sheet.rows)
    return paths

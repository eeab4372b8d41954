"""An autoencoder in use: codes, images, samples."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from mote.files.preprocessing import Preprocessing, read_preprocessing
from mote.files.run_directory import model_folder
from mote.files.writing import replacing_together
from mote.inference.asked import Source
from mote.inference.describe import described
from mote.models.autoencoder import ImageAutoencoder, load_autoencoder, sample_posterior
from mote.regularizers.gaussian_mixture import (
    Mixture,
    draw_modes,
    sample_mixture,
)
from mote.reporting.image_grid import write_image_grid

CONFIDENT = 0.9  # probability above which the judge is sure of what a sample shows


@dataclass(frozen=True, repr=False)
class LatentModel:
    """A trained autoencoder with the prior that its samples are drawn from; `meta`: content of its model.json."""

    model: ImageAutoencoder
    prior: Mixture
    meta: Mapping[str, Any]
    source: Source | None = None
    kind: Literal["autoencoder"] = "autoencoder"

    def __repr__(self) -> str:
        """A few lines: method, images, classes, where it comes from."""
        return described(self)

    @property
    def classes(self) -> list[str]:
        """Class names of the list it was trained on."""
        return self.meta["classes"]

    @property
    def method(self) -> str:
        """autoencoder.method of its training."""
        return self.meta["method"]

    @property
    def conditional(self) -> bool:
        """Whether class k is mode k of the prior."""
        return self.meta["conditional"]

    @property
    def preprocessing(self) -> Preprocessing:
        """How pictures became the images of its training."""
        return read_preprocessing(self.meta)

    @property
    def device(self) -> torch.device:
        """Where it runs."""
        return next(self.model.parameters()).device

    def codes(self, images: Tensor, generator: torch.Generator) -> tuple[Float[Tensor, "B d"], Float[Tensor, "B d"]]:
        """(the codes that are decoded, those that should follow the prior): a vae's means and draws, else equal."""
        codes = self.model.encode(images)
        if self.method != "vae":
            return codes, codes
        z, mean, _ = sample_posterior(codes, generator)
        return mean, z

    def draw(
        self, modes: Int64[Tensor, "N"], generator: torch.Generator
    ) -> Iterator[tuple[Float[Tensor, "B d"], Float[Tensor, "B C S S"]]]:
        """Codes and decoded images of each of `modes`, some at a time; the same on any device."""
        for part in modes.split(500):
            z = sample_mixture(self.prior, part, generator)
            yield z, self.model.decode(z.to(self.device)).float().cpu()


def load_latent(path: Path) -> LatentModel:
    """The autoencoder of a run directory or model folder, on the CPU; raises ValueError where there is none."""
    model, prior, meta = load_autoencoder(model_folder(path))
    if not isinstance(model, ImageAutoencoder):
        raise ValueError(f"{path}: an autoencoder of features, not of images")
    return LatentModel(model.eval(), Mixture(**prior), meta)


@torch.inference_mode()
def sample_run(folder: str, count: int, out: str, *, mode: int | None = None, seed: int = 0) -> None:
    """Draw `count` images of a run from its prior, or from one `mode` of it: a sheet (PNG) and their arrays (.npz).

    The .npz lies beside `out` and holds `images` uint8 (N, S, S[, 3]), `codes` (N, d) and `modes` (N,).

    Raises:
        ValueError: no autoencoder there, a mode that it has not, no images, or another file than a .png.
    """
    path = Path(out)
    if path.suffix.lower() != ".png":
        raise ValueError(f"--out {out}: expected a name that ends in .png (the arrays go to .npz beside it)")
    if count < 1:
        raise ValueError(f"--count: expected at least 1 image, got {count}")
    latent = load_latent(Path(folder))
    num_modes = len(latent.prior.priors)
    if mode is not None and not 0 <= mode < num_modes:
        raise ValueError(f"--mode: {folder} has the modes 0 to {num_modes - 1}, got {mode}")
    generator = torch.Generator().manual_seed(seed)
    modes = draw_modes(latent.prior, count, generator) if mode is None else torch.full((count,), mode)
    modes = modes.sort().values
    codes, pixels = (torch.cat(part) for part in zip(*latent.draw(modes, generator), strict=True))
    images = (255 * pixels).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    images = images[..., 0] if images.shape[-1] == 1 else images
    with replacing_together(path.parent) as stage:
        write_image_grid(stage / path.name, pixels, columns=max(1, round(count**0.5)))
        arrays = stage / path.with_suffix(".npz").name
        np.savez_compressed(arrays, images=images, codes=codes.numpy(), modes=modes.numpy())
    print(f"{path}, {path.with_suffix('.npz')}: {count} images of {folder}, seed {seed}")

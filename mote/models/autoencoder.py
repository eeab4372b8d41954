"""Autoencoder of small images, on disk with the prior of its latent space.

`encode` gives `codes` numbers per image: the latent, or mean and log-variance of a VAE; `decode` takes the latent.
Images (B, C, S, S) in 0..255 become numbers in [0, 1]: strided 4x4 convolutions with batch normalisation halve the
image until 4 to 7 pixels are left, doubling the width each time, and one linear layer makes the code; the decoder is
the mirror image of the encoder and ends in a sigmoid.

On disk: `model.safetensors` (parameters; the prior under `prior.`), `model.json` with "task": "autoencoder".
"""

from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Num
from torch import Tensor, nn

from mote.files.run_directory import DESCRIPTION, WEIGHTS, read_description, task_of
from mote.models.description import AutoencoderDescription, check_description
from mote.models.tensor_files import Tensors, check_names, check_tensors, filled, write_model_folder

PRIOR = "prior."  # of the names of its tensors


class ImageAutoencoder(nn.Module):
    """Autoencoder of images of S = 4, 5, 6 or 7 times a power of two pixels, at least 8.

    Args:
        size: S; 28, 32, 48, 56 and 64 among others.
        channels: C.
        latent: d, the input width of the decoder.
        codes: output width of the encoder; None = d, a VAE needs 2 d.
        width: channels after the first convolution.

    Raises:
        ValueError: another size.
    """

    def __init__(self, *, size: int, channels: int = 1, latent: int = 16, codes: int | None = None, width: int = 32):
        super().__init__()
        codes = codes or latent
        self.sizes: dict[str, int] = {"size": size, "channels": channels, "latent": latent, "codes": codes}
        self.sizes["width"] = width
        side, halvings = size, 0
        while side > 7 and side % 2 == 0:
            side, halvings = side // 2, halvings + 1
        if not halvings or not 4 <= side <= 7:
            raise ValueError(
                f"an autoencoder of images needs a size of 4, 5, 6 or 7 times a power of two (28, 32, 48, 64, ...), "
                f"got {size}; set data.size"
            )
        widths = [channels, *(width * 2**i for i in range(halvings))]
        steps = list(pairwise(widths))
        down = [
            nn.Sequential(nn.Conv2d(a, b, 4, 2, 1, bias=False), nn.BatchNorm2d(b), nn.ReLU(inplace=True))
            for a, b in steps
        ]
        up = [
            nn.Sequential(nn.ConvTranspose2d(b, a, 4, 2, 1, bias=False), nn.BatchNorm2d(a), nn.ReLU(inplace=True))
            for a, b in reversed(steps[1:])
        ]
        top = widths[-1] * side**2
        self.encoder = nn.Sequential(*down, nn.Flatten(), nn.Linear(top, codes))
        grid = nn.Unflatten(1, (widths[-1], side, side))
        last = nn.ConvTranspose2d(width, channels, 4, 2, 1)
        self.decoder = nn.Sequential(nn.Linear(latent, top), nn.ReLU(inplace=True), grid, *up, last, nn.Sigmoid())

    def target(self, images: Num[Tensor, "B C S S"]) -> Float[Tensor, "B C S S"]:
        """The images that the decoder should give: pixels in [0, 1]."""
        return images.to(next(self.parameters()).dtype) / 255

    def encode(self, images: Num[Tensor, "B C S S"]) -> Float[Tensor, "B codes"]:
        """Codes of images in 0..255."""
        return self.encoder(self.target(images))

    def decode(self, z: Float[Tensor, "B d"]) -> Float[Tensor, "B C S S"]:
        """Images with pixels in [0, 1]."""
        return self.decoder(z)

    def forward(self, images: Num[Tensor, "B C S S"]) -> Float[Tensor, "B C S S"]:
        """Reconstructions from the first d codes (the means of a VAE)."""
        return self.decode(self.encode(images)[:, : self.sizes["latent"]])


KIND = "image"  # in `model.json`; there were others


class LoadedAutoencoder(NamedTuple):
    """A model from disk, in evaluation mode on the CPU; its prior as tensors by name; the content of `model.json`."""

    model: ImageAutoencoder
    prior: dict[str, Tensor]
    meta: dict[str, Any]


def save_autoencoder(
    folder: Path, model: ImageAutoencoder, prior: Mapping[str, Tensor], meta: Mapping[str, object]
) -> None:
    """Write `model.safetensors` and `model.json` (with `meta`: JSON values), each whole or not at all."""
    description = {"task": "autoencoder", **meta, "kind": KIND, "sizes": model.sizes}
    tensors = {**model.state_dict(), **{PRIOR + name: value for name, value in prior.items()}}
    write_model_folder(folder, tensors, description)


def is_autoencoder(folder: Path) -> bool:
    """Whether `folder` holds an autoencoder."""
    return task_of(folder) == "autoencoder"


def load_autoencoder(folder: Path) -> LoadedAutoencoder:
    """Rebuild a model written by `save_autoencoder`.

    Raises:
        ValueError: naming the file that is missing, damaged, of another kind of model, or does not fit the other.
    """
    if not is_autoencoder(folder):
        what = "holds no autoencoder" if folder.exists() else "is not there, so it holds no autoencoder"
        raise ValueError(f"{folder}: {what}; give the directory of a finished run with task=autoencoder")
    meta, place, weights = read_description(folder), folder / DESCRIPTION, folder / WEIGHTS
    state = Tensors(weights)
    prior = {name.removeprefix(PRIOR): t for name, t in state.take([n for n in state if n.startswith(PRIOR)]).items()}
    check_description(AutoencoderDescription, meta, place, len(state))

    def build(device: str) -> ImageAutoencoder:
        with torch.random.fork_rng(devices=[]), torch.device(device):  # the initial weights are thrown away
            return ImageAutoencoder(**meta["sizes"])

    model = filled(build, state, weights, place)
    _check_prior(prior, meta, weights)
    return LoadedAutoencoder(model, prior, meta)


def _check_prior(prior: Mapping[str, Tensor], meta: Mapping[str, Any], path: Path) -> None:
    """Check that the prior is a Gaussian mixture of codes: shares that sum to 1, and deviations above 0."""
    modes, latent = max(1, prior.get("priors", torch.zeros(1)).numel()), meta["sizes"]["latent"]
    shapes = {"centres": (modes, latent), "scale_tril": (modes, latent, latent), "priors": (modes,)}
    named = {PRIOR + name: tensor for name, tensor in prior.items()}
    check_tensors(named, {PRIOR + name: torch.empty(shape, device="meta") for name, shape in shapes.items()}, path)
    shares, scale = prior["priors"].double(), prior["scale_tril"]
    problems = {
        "priors": bool(shares.min() < 0 or abs(shares.sum() - 1) > 0.01),
        "scale_tril": bool(scale.diagonal(dim1=1, dim2=2).min() <= 0 or scale.triu(1).any()),
    }
    check_names({PRIOR + name for name, wrong in problems.items() if wrong}, "of no Gaussian mixture", path)
    if meta["conditional"] and modes != len(meta["classes"]):
        raise ValueError(f"{path}: its prior has {modes} modes for {len(meta['classes'])} classes, but is conditional")


def sample_posterior(
    codes: Float[Tensor, "B codes"], generator: torch.Generator
) -> tuple[Float[Tensor, "B d"], Float[Tensor, "B d"], Float[Tensor, "B d"]]:
    """Draws z ~ N(m, diag e^l) of a VAE, with m and l, from its codes (m, l); the generator is on the CPU."""
    mean, log_variance = codes.chunk(2, dim=1)
    noise = torch.randn(mean.shape, generator=generator).to(mean)
    return mean + (0.5 * log_variance).exp() * noise, mean, log_variance

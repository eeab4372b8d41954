"""Deterministic autoencoders of small pictures and of feature vectors, on disk with the prior of their latent space.

Both have ``encode`` (to ``codes`` numbers: the latent, or mean and log-variance of a VAE's) and ``decode`` (from the
latent). Pictures (B, C, S, S) in 0..255 become numbers in [0, 1]: strided 4x4 convolutions with batch normalisation
halve the picture until 4 to 7 pixels are left, doubling the width each time, and one linear layer makes the code;
the decoder is its mirror image and ends in a sigmoid. Features (B, D) go through one hidden layer each way; with
``unit`` the decoder's output has length 1, as CLIP's features have.

On disk: ``model.safetensors`` (parameters; the prior under ``prior.``), ``model.json`` with "task": "autoencoder".
"""

import json
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Num
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from mote.files.run_directory import DESCRIPTION, WEIGHTS, read_description
from mote.files.writing import replacing, write_atomic

PRIOR = "prior."  # of the names of its tensors


class ImageAutoencoder(nn.Module):
    """Pictures of S = 4, 5, 6 or 7 times a power of two, at least 8 pixels.

    Args:
        size: S; 28, 32, 48, 56 and 64 among others.
        channels: C.
        latent: d, numbers that the decoder takes.
        codes: numbers that the encoder gives; None = d, a VAE needs 2 d.
        width: channels after the first convolution.

    Raises:
        ValueError: another size.
    """

    def __init__(self, *, size: int, channels: int = 1, latent: int = 16, codes: int | None = None, width: int = 32):
        super().__init__()
        codes = codes or latent
        self.sizes: dict[str, Any] = {"size": size, "channels": channels, "latent": latent, "codes": codes}
        self.sizes["width"] = width
        side, halvings = size, 0
        while side > 7 and side % 2 == 0:
            side, halvings = side // 2, halvings + 1
        if not halvings or not 4 <= side <= 7:
            raise ValueError(
                f"an autoencoder of pictures needs a size of 4, 5, 6 or 7 times a power of two (28, 32, 48, 64, ...), "
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
        """What the decoder should give: the pixels in [0, 1]."""
        return images.to(next(self.parameters()).dtype) / 255

    def encode(self, images: Num[Tensor, "B C S S"]) -> Float[Tensor, "B codes"]:
        """Codes of pictures in 0..255."""
        return self.encoder(self.target(images))

    def decode(self, z: Float[Tensor, "B d"]) -> Float[Tensor, "B C S S"]:
        """Pixels in [0, 1]."""
        return self.decoder(z)

    def forward(self, images: Num[Tensor, "B C S S"]) -> Float[Tensor, "B C S S"]:
        """The reconstruction, through the first d codes (a VAE's means)."""
        return self.decode(self.encode(images)[:, : self.sizes["latent"]])


class FeatureAutoencoder(nn.Module):
    """Features (B, D) of a frozen model; ``hidden`` units each way, no normalisation of batches.

    Args:
        features: D.
        latent, codes: see ``ImageAutoencoder``.
        hidden: units.
        unit: the features have length 1, and so has the output.
    """

    def __init__(
        self, *, features: int, latent: int = 16, codes: int | None = None, hidden: int = 256, unit: bool = False
    ):
        super().__init__()
        codes = codes or latent
        self.sizes: dict[str, Any] = {"features": features, "latent": latent, "codes": codes}
        self.sizes |= {"hidden": hidden, "unit": unit}
        self.encoder = nn.Sequential(nn.Linear(features, hidden), nn.ReLU(), nn.Linear(hidden, codes))
        self.decoder = nn.Sequential(nn.Linear(latent, hidden), nn.ReLU(), nn.Linear(hidden, features))

    def target(self, features: Float[Tensor, "B D"]) -> Float[Tensor, "B D"]:
        """What the decoder should give: the features."""
        return features

    def encode(self, features: Float[Tensor, "B D"]) -> Float[Tensor, "B codes"]:
        """Codes."""
        return self.encoder(features)

    def decode(self, z: Float[Tensor, "B d"]) -> Float[Tensor, "B D"]:
        """Features."""
        out = self.decoder(z)
        return F.normalize(out, dim=-1) if self.sizes["unit"] else out

    def forward(self, features: Float[Tensor, "B D"]) -> Float[Tensor, "B D"]:
        """The reconstruction, through the first d codes."""
        return self.decode(self.encode(features)[:, : self.sizes["latent"]])


AUTOENCODERS = {"image": ImageAutoencoder, "feature": FeatureAutoencoder}


class LoadedAutoencoder(NamedTuple):
    """From disk, in evaluation mode on the CPU; ``prior``: tensors by name; ``meta``: its ``model.json``."""

    model: ImageAutoencoder | FeatureAutoencoder
    prior: dict[str, Tensor]
    meta: dict[str, Any]


def save_autoencoder(
    folder: Path, model: ImageAutoencoder | FeatureAutoencoder, prior: Mapping[str, Tensor], meta: Mapping[str, Any]
) -> None:
    """Write ``model.safetensors`` and ``model.json`` (with ``meta``: JSON values), each whole or not at all."""
    kind = next(name for name, kind in AUTOENCODERS.items() if type(model) is kind)
    description = {"task": "autoencoder", **meta, "kind": kind, "sizes": model.sizes}
    tensors = {**model.state_dict(), **{PRIOR + name: value for name, value in prior.items()}}
    state = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    with replacing(folder / WEIGHTS) as temporary:
        save_file(state, temporary)
    write_atomic(folder / DESCRIPTION, json.dumps(description, indent=2) + "\n")


def is_autoencoder(folder: Path) -> bool:
    """Whether ``folder`` holds a model of this file."""
    try:
        return read_description(folder).get("task") == "autoencoder"
    except (OSError, ValueError, AttributeError):
        return False


def load_autoencoder(folder: Path) -> LoadedAutoencoder:
    """Rebuild a model written by ``save_autoencoder``.

    Raises:
        ValueError: naming the file that is missing, damaged, of another kind of model, or does not fit the other.
    """
    if not is_autoencoder(folder):
        raise ValueError(f"{folder}: holds no autoencoder; give the directory of a finished run with task=autoencoder")
    try:
        meta = read_description(folder)
        with torch.random.fork_rng(devices=[]):  # the initial weights are thrown away
            model = AUTOENCODERS[meta["kind"]](**meta["sizes"])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{folder / DESCRIPTION}: does not describe an autoencoder: {error}") from None
    try:
        state = load_file(folder / WEIGHTS)
        prior = {name.removeprefix(PRIOR): state.pop(name) for name in list(state) if name.startswith(PRIOR)}
        model.load_state_dict(state)
    except (SafetensorError, OSError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{folder / WEIGHTS}: does not fit {DESCRIPTION}: {reason}") from None
    return LoadedAutoencoder(model.eval(), prior, meta)


def sample_posterior(
    codes: Float[Tensor, "B codes"], generator: torch.Generator
) -> tuple[Float[Tensor, "B d"], Float[Tensor, "B d"], Float[Tensor, "B d"]]:
    """A vae's z ~ N(m, diag e^l), m and l; the generator is on the CPU."""
    mean, log_variance = codes.chunk(2, dim=1)
    noise = torch.randn(mean.shape, generator=generator).to(mean)
    return mean + (0.5 * log_variance).exp() * noise, mean, log_variance

"""Settings of networks for still images and of autoencoders, see `sections`."""

import re
from typing import Annotated, Literal

from pydantic import model_validator

from mote.config.kinds import (
    Count,
    Few,
    Filled,
    Moderate,
    NonNegative,
    Place,
    Section,
    Share,
    ShareBelowOne,
    Size,
    Text,
)

# Of timm, which would cut a magnitude above 10 and take the last of two parts of one name.
POLICY = re.compile(r"rand(-m([0-9]|10))?(-n[1-9])?(-p(0?\.[0-9]+|1))?(-mstd[0-9]+(\.[0-9]+)?)?(-inc[01])?")


class ImageConfig(Section):
    """The network and the images of task=image and task=expression."""

    # lenet, mlp, resnet8, resnet20, resnet32, timm:NAME, or backbone: the visual tower of model.backbone, with class
    # names as the head.
    net: Text = "resnet20"
    pretrained: bool = False  # net=timm:NAME: start from its published weights, which are downloaded
    # Run directory or model folder of the same net to start from, as of `mote compact`; with task=expression also a
    # file of weights, whose head is left out.
    init: Place | None = None
    channels: Literal[1, 3] = 3  # 1 = gray, 3 = colour
    dropout: ShareBelowOne = 0.0  # probability of dropping a feature before the head
    pad: Few = 0  # pixels of padding, after which is cropped at random, in place of data.crop_scale; 0 = none
    # RandAugment of training images, a policy of timm such as rand-m9-mstd0.5-inc1; null = none.
    augment: Text | None = None
    erase: Share = 0.0  # probability that a rectangle of a training image becomes noise
    # Smallest and largest area of that rectangle, as shares of the image.
    erase_area: tuple[ShareBelowOne, ShareBelowOne] = (0.02, 0.33)
    # Mean of pixels in [0, 1], one number or one per channel; timm and backbone have their own.
    mean: Annotated[tuple[Share, ...], Filled] = (0.5,)
    # Standard deviation of pixels in [0, 1], one number or one per channel; timm and backbone have their own.
    std: Annotated[tuple[Moderate, ...], Filled] = (0.25,)

    @model_validator(mode="after")
    def _variations(self) -> "ImageConfig":
        if self.augment is not None and not POLICY.fullmatch(self.augment):
            raise ValueError(
                f"image.augment={self.augment}: expected a policy of timm such as rand-m9-mstd0.5-inc1: rand, then "
                "any of m0 to m10, n1 to n9, p with a share, mstd with a number, inc0 or inc1, in this order"
            )
        if not 0 < self.erase_area[0] <= self.erase_area[1]:
            raise ValueError(
                f"image.erase_area={[*self.erase_area]}: expected the smallest area, above 0, and then the largest"
            )
        return self


class AutoencoderConfig(Section):
    """Network, prior and loss of task=autoencoder; its images are those of `data` and `image`."""

    # gm: codes follow a Gaussian mixture; ae: plain, a mixture is fitted to the codes afterwards; vae: variational;
    # wae_mmd: Wasserstein autoencoder with MMD to the mixture.
    method: Literal["gm", "ae", "vae", "wae_mmd"] = "gm"
    latent: Size = 16  # dimensions of a code
    width: Count = 16  # channels of the first convolution, doubled at each halving of the image
    modes: Size = 10  # gm, ae, wae_mmd: Gaussians of the mixture
    separation: Moderate = 6.0  # gm, wae_mmd: distance of the Gaussians in standard deviations; below 4 they overlap
    conditional: bool = False  # gm: Gaussian k is class k, by the labels; needs modes = number of classes
    # Weight of the mean squared error of pixels in [0, 1]; 1 / the error aimed at.
    reconstruction_weight: NonNegative = 2000.0
    cdf_weight: NonNegative = 1.0  # gm: weight of the term of distributions; gm terms are 1 for a perfect encoder
    covariance_weight: NonNegative = 1.0  # gm: weight of the term of covariances
    mean_weight: NonNegative = 1.0  # gm: weight of the term of means
    kl_weight: NonNegative = 1.0  # vae: weight of the KL divergence in nats
    mmd_weight: NonNegative = 100.0  # wae_mmd: weight of the squared MMD to the mixture
    judge: Place | None = None  # run of task=image whose features and classes score the samples; null = neither

    @model_validator(mode="after")
    def _fitting(self) -> "AutoencoderConfig":
        if self.method in ("gm", "wae_mmd") and self.modes > self.latent:
            raise ValueError(
                f"{self.modes} modes of {self.method} need a latent of at least {self.modes} dimensions, one axis each "
                f"to be {self.separation:g} std apart; got autoencoder.latent={self.latent}"
            )
        if self.conditional and self.method != "gm":
            raise ValueError(f"autoencoder.conditional is for method=gm, got {self.method}")
        return self

"""RandAugment and random erasing of training images, by timm and torchvision.

RandAugment: Cubuk et al., NeurIPS 2020, in the form of timm, whose strings name a policy: "rand-m9-mstd0.5-inc1" takes
two operations of magnitude 9 with a deviation of 0.5. Random erasing: Zhong et al., AAAI 2020, a rectangle of random
place and shape becomes noise.
"""

import random
from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

RATIO = (0.3, 3.3)  # of height and width of what is erased
NOISE = (127.5, 64.0)  # mean and standard deviation of the grey levels in its place


class Variation(NamedTuple):
    """What is done to an image after cropping and flipping; nothing by default."""

    augment: str | None = None  # policy of timm; None: no RandAugment
    erase: float = 0.0  # probability of erasing
    area: tuple[float, float] = (0.02, 0.33)  # smallest and largest area erased, as shares of the image

    @property
    def is_nothing(self) -> bool:
        """Whether images stay as they are."""
        return self.augment is None and self.erase == 0

    def __call__(self, image: UInt8[Tensor, "3 S S"], rng: np.random.Generator) -> UInt8[Tensor, "3 S S"]:
        """A new image; the same one for equal numbers from `rng`, of which the count does not depend on the outcome."""
        seeds, erased = rng.integers(2**32, size=2), rng.random() < self.erase
        if self.augment is not None:
            image = _augmented(image, self.augment, int(seeds[0]))
        return _erased(image, self.area, int(seeds[1])) if erased else image


UNCHANGED = Variation()


def _augmented(image: UInt8[Tensor, "3 S S"], policy: str, seed: int) -> UInt8[Tensor, "3 S S"]:
    """The image after the operations of a policy; timm draws from global generators, which are left as they were."""
    python, numpy = random.getstate(), np.random.get_state()
    random.seed(seed)
    np.random.seed(seed)
    try:
        changed = _policy(policy, image.shape[-1])(Image.fromarray(image.permute(1, 2, 0).numpy()))
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
    return torch.from_numpy(np.array(changed)).permute(2, 0, 1)


@cache
def _policy(policy: str, size: int) -> Callable[[Image.Image], Image.Image]:
    """Shifts reach 45 % of the image, as timm's own recipes have it; what comes in from outside is grey."""
    from timm.data.auto_augment import rand_augment_transform  # slow to import

    return rand_augment_transform(policy, {"translate_const": int(0.45 * size), "img_mean": (128, 128, 128)})


def _erased(image: UInt8[Tensor, "3 S S"], area: tuple[float, float], seed: int) -> UInt8[Tensor, "3 S S"]:
    """The image with noise in a rectangle; as it was where no rectangle of ten fits."""
    from torchvision.transforms import RandomErasing  # slow to import

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        top, left, height, width, noise = RandomErasing.get_params(image, area, RATIO, None)
    if (height, width) == image.shape[-2:]:
        return image
    mean, deviation = NOISE
    image = image.clone()
    image[:, top : top + height, left : left + width] = (mean + deviation * noise).round_().clamp_(0, 255).byte()
    return image

"""Small image networks on which structured sparsity and R-Drop were published, and the wrapper that classifies pixels.

- `LeNet`: the network of Caffe's MNIST example (20-50-500-10, LeCun et al. 1998): two 5x5 convolutions without an
  activation, each followed by 2x2 max pooling, one hidden layer with ReLU. 28 x 28 pixels give 800 inputs to it.
- `MLP`: 784-500-300-10 with ReLU (Wen et al., NIPS 2016, figure 4a).
- `ResNet`: for 32 x 32 pixels (He et al., CVPR 2016, section 4.2): 3 stages of n blocks, widths 16, 32, 64, depth
  6 n + 2. Where the shape changes the shortcut is a 1x1 convolution, as in Wen et al., not a padded identity.

Every width is an argument, so that a network from which units were removed is the same class with smaller numbers;
`sizes` gives the arguments that rebuild it. Dropout stands before the last layer, and after every hidden one of the
MLP: R-Drop needs some.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from jaxtyping import Float, Num
from torch import Tensor, nn
from torch.nn import functional as F

from mote.files.preprocessing import CUT_FIRST, Preprocessing


class LeNet(nn.Module):
    """Caffe's LeNet: images (B, in_channels, size, size) -> logits (B, num_classes); size a multiple of 4, >= 16."""

    def __init__(
        self,
        num_classes: int,
        *,
        in_channels: int = 1,
        size: int = 28,
        conv1: int = 20,
        conv2: int = 50,
        hidden: int = 500,
        dropout: float = 0.0,
    ):
        super().__init__()
        if size % 4 or size < 16:
            raise ValueError(f"LeNet halves the image twice: expected a size of 16, 20, 24, 28, ..., got {size}")
        self.sizes = {"in_channels": in_channels, "size": size}
        self.sizes |= {"conv1": conv1, "conv2": conv2, "hidden": hidden}
        self.conv1 = nn.Conv2d(in_channels, conv1, 5)
        self.conv2 = nn.Conv2d(conv1, conv2, 5)
        self.fc1 = nn.Linear(conv2 * (size // 4 - 3) ** 2, hidden)
        self.dropout = nn.Dropout(dropout)
        self.fc2 = nn.Linear(hidden, num_classes)
        for p in self.parameters():  # Caffe's "xavier": variance 1 / fan_in, and no bias
            nn.init.zeros_(p) if p.ndim == 1 else nn.init.kaiming_uniform_(p, nonlinearity="linear")

    def forward(self, x: Float[Tensor, "B C S S"]) -> Float[Tensor, "B K"]:
        """Logits."""
        x = F.max_pool2d(self.conv1(x), 2)
        x = F.max_pool2d(self.conv2(x), 2)
        return self.fc2(self.dropout(F.relu(self.fc1(x.flatten(1)))))


class MLP(nn.Module):
    """Fully connected: images (B, in_channels, size, size), flattened -> logits (B, num_classes)."""

    def __init__(
        self,
        num_classes: int,
        *,
        in_channels: int = 1,
        size: int = 28,
        hidden: Sequence[int] = (500, 300),
        dropout: float = 0.0,
    ):
        super().__init__()
        self.sizes: dict[str, object] = {"in_channels": in_channels, "size": size, "hidden": list(hidden)}
        widths = (in_channels * size * size, *hidden)
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))
        self.dropout = nn.Dropout(dropout)
        self.out = nn.Linear(widths[-1], num_classes)

    def forward(self, x: Float[Tensor, "B C S S"]) -> Float[Tensor, "B K"]:
        """Logits."""
        x = x.flatten(1)
        for layer in self.layers:
            x = self.dropout(F.relu(layer(x)))
        return self.out(x)


class CosineHead(nn.Module):
    """Logits scale * cos(x, w_c), for losses whose margins are angles (LDAM): features (..., D) -> (..., K)."""

    def __init__(self, width: int, num_classes: int, scale: float = 30.0):
        super().__init__()
        self.scale = scale
        self.weight = nn.Parameter(torch.empty(num_classes, width))
        nn.init.kaiming_uniform_(self.weight, nonlinearity="linear")

    def forward(self, x: Float[Tensor, "*B D"]) -> Float[Tensor, "*B K"]:
        """Scaled cosines."""
        return self.scale * F.linear(F.normalize(x, dim=-1), F.normalize(self.weight, dim=-1))


def make_head(width: int, num_classes: int, cosine: float | None) -> nn.Linear | CosineHead:
    """The last layer: linear, or cosines times `cosine`."""
    return nn.Linear(width, num_classes) if cosine is None else CosineHead(width, num_classes, cosine)


class ResidualBlock(nn.Module):
    """relu(shortcut(x) + bn2(conv2(relu(bn1(conv1 x))))), 3x3 convolutions, `inner` channels between the two.

    With `inner` 0 the first three layers are None and the branch is what bn2 makes of nothing, as if they were zero.
    """

    def __init__(self, width_in: int, width: int, inner: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(width_in, inner, 3, stride, padding=1, bias=False) if inner else None
        self.bn1 = nn.BatchNorm2d(inner) if inner else None
        self.conv2 = nn.Conv2d(inner, width, 3, padding=1, bias=False) if inner else None
        self.bn2 = nn.BatchNorm2d(width)
        same = stride == 1 and width_in == width
        self.shortcut = nn.Identity() if same else nn.Conv2d(width_in, width, 1, stride, bias=False)

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D h w"]:
        """One block."""
        kept = self.shortcut(x)
        if self.conv1 is None or self.bn1 is None or self.conv2 is None:
            return F.relu(kept + self.bn2(torch.zeros_like(kept)))
        return F.relu(kept + self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))))


class ResNet(nn.Module):
    """Residual network for small images: images (B, in_channels, H, W) -> logits (B, num_classes).

    Args:
        num_classes: K.
        blocks: n, blocks in each of the three stages; 3 is ResNet-20, 5 is ResNet-32.
        in_channels: 1 or 3.
        inner: channels inside each of the 3 n blocks; None = the width of the block's stage.
        dropout: before the last layer.
        cosine: scale of a `CosineHead` in the place of the linear last layer.
    """

    def __init__(
        self,
        num_classes: int,
        *,
        blocks: int = 3,
        in_channels: int = 3,
        inner: Sequence[int] | None = None,
        dropout: float = 0.0,
        cosine: float | None = None,
    ):
        super().__init__()
        widths = [width for width in (16, 32, 64) for _ in range(blocks)]
        inner = list(widths if inner is None else inner)
        self.sizes: dict[str, object] = {"blocks": blocks, "in_channels": in_channels, "inner": inner}
        self.sizes |= {} if cosine is None else {"cosine": cosine}
        self.conv1 = nn.Conv2d(in_channels, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        before = [16, *widths[:-1]]
        self.blocks = nn.ModuleList(
            ResidualBlock(a, b, middle, stride=1 if a == b else 2)
            for a, b, middle in zip(before, widths, inner, strict=True)
        )
        self.dropout = nn.Dropout(dropout)
        self.fc = make_head(64, num_classes, cosine)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward_features(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D h w"]:
        """The last feature map, D = 64, a quarter of the image's size."""
        x = F.relu(self.bn1(self.conv1(x)))
        for block in self.blocks:
            x = block(x)
        return x

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B K"]:
        """Logits."""
        return self.fc(self.dropout(self.forward_features(x).mean((2, 3))))


NETS: dict[str, Callable[..., nn.Module]] = {"lenet": LeNet, "mlp": MLP, "resnet": ResNet}
DEPTHS = {"resnet8": 1, "resnet20": 3, "resnet32": 5}  # name -> blocks in a stage


class ImageClassifier(nn.Module):
    """A network on pixels: normalises images (B, C, H, W) in 0..255 on the device, then `net` -> logits (B, K).

    Args:
        net: normalised images -> logits.
        mean, std: of the pixels in [0, 1], one number or one for each channel; kept with the weights.
        preprocessing: how pictures become images of its size.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        net: nn.Module,
        *,
        mean: Sequence[float] = (0.5,),
        std: Sequence[float] = (0.25,),
        preprocessing: Preprocessing = CUT_FIRST,
    ):
        super().__init__()
        self.net, self.preprocessing = net, preprocessing
        for name, value in (("mean", mean), ("std", std)):
            self.register_buffer(name, torch.tensor(value, dtype=torch.float32).view(-1, 1, 1))

    def forward(self, images: Num[Tensor, "B C H W"]) -> Float[Tensor, "B K"]:
        """Logits of uint8 images, or of mixed ones, which are floats in the same range."""
        return self.net(self._normalized(images))

    def encode(self, images: Num[Tensor, "B C H W"]) -> tuple[Float[Tensor, "B D"], Float[Tensor, "B D h w"]]:
        """What `classify` takes, and the last feature map, whose mean it is.

        For networks with `forward_features`, `dropout` and a last layer `fc`.
        """
        features = self.net.forward_features(self._normalized(images))  # type: ignore[operator]
        return features.mean((2, 3)), features

    def classify(self, pooled: Float[Tensor, "B D"]) -> Float[Tensor, "B K"]:
        """Logits; dropout is drawn anew in every call."""
        return self.net.fc(self.net.dropout(pooled))  # type: ignore[operator]

    def directions(self) -> Float[Tensor, "K D"]:
        """What a place of the feature map is multiplied with for its class activation map: the head's weights."""
        head = self.net.get_submodule("fc")
        weight = head.get_parameter("weight")
        return F.normalize(weight, dim=-1) if isinstance(head, CosineHead) else weight

    def place_logits(self, features: Float[Tensor, "B D h w"]) -> Float[Tensor, "B K h w"]:
        """What the head says to every place of the feature map alone."""
        return self.net.fc(features.movedim(1, -1)).movedim(-1, 1)  # type: ignore[operator]

    @property
    def scale(self) -> float | Tensor:
        """Multiplier of the head's cosines; 1 for a linear head."""
        return getattr(self.net.fc, "scale", 1.0)

    def _normalized(self, images: Num[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        return (images.to(self.mean.dtype) / 255 - self.mean) / self.std


def build_net(name: str, num_classes: int, **sizes: object) -> nn.Module:
    """`lenet`, `mlp`, `resnet` (with `blocks`), `resnet8`, `resnet20` or `resnet32`; `sizes`: theirs.

    A residual network takes any image, so a `size` given to it is dropped.

    Raises:
        ValueError: an unknown name.
    """
    if name in DEPTHS:
        name, sizes = "resnet", {"blocks": DEPTHS[name], **sizes}
    if name not in NETS:
        raise ValueError(f"unknown image network {name!r}; choose one of {', '.join([*NETS, *DEPTHS])}")
    if name == "resnet":
        sizes.pop("size", None)
    return NETS[name](num_classes, **sizes)

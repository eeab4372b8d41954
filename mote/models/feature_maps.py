"""Networks that show where they look: a last feature map beside the logits, for class activation maps.

`TimmMaps` takes any network of timm up to its last feature map F (B, D, h, w) and puts mean, dropout and a linear
layer behind it, so that the mean over places of W F is the logit without bias, exactly, for every architecture:
convolutional, Swin (whose maps are channels-last) and ViT (patch tokens; class tokens are left out).

`CLIPImages` is CLIP on still images. Its map are the patch tokens in the joint space, normalised, so that their
products with class features are cosines; the logits come from the image feature as ever, so there the mean of a map is
not the logit.
"""

import warnings
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Num
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from mote.files.preprocessing import Preprocessing
from mote.models.image_nets import ImageClassifier, make_head
from mote.models.old_names import reads_old_name
from mote.models.open_clip_blocks import all_tokens
from mote.models.tensor_files import check_numbers
from mote.models.video_clip import VideoCLIP


class TimmMaps(nn.Module):
    """A network of timm: normalised images (B, C, S, S) -> logits (B, num_classes).

    Args:
        name: of the network in timm.
        num_classes: K.
        in_channels, size: of the images.
        dropout: before the last layer.
        pretrained: download its weights.
        cosine: see `image_nets.make_head`.

    Raises:
        ValueError: a network whose features are no map.
    """

    def __init__(
        self,
        name: str,
        num_classes: int,
        *,
        in_channels: int,
        size: int,
        dropout: float = 0.0,
        pretrained: bool = False,
        cosine: float | None = None,
    ):
        super().__init__()
        import timm  # here, since most networks are none of its

        statistics = timm.get_pretrained_cfg(name)
        fixed: dict[str, Any] = {"img_size": size} if statistics is not None and statistics.fixed_input_size else {}
        body: Any = timm.create_model(name, pretrained=pretrained, num_classes=0, in_chans=in_channels, **fixed)
        self.body, self.dropout = body, nn.Dropout(dropout)
        self.sizes: dict[str, int | float] = {"in_channels": in_channels, "size": size, "maps": True}
        self.sizes |= {} if cosine is None else {"cosine": cosine}
        self.eval()
        with torch.no_grad():
            width = self.forward_features(torch.zeros(1, in_channels, size, size)).shape[1]
        self.train()
        self.fc = make_head(width, num_classes, cosine)

    def forward_features(self, x: Float[Tensor, "B C S S"]) -> Float[Tensor, "B D h w"]:
        """The last feature map."""
        features = self.body.forward_features(x)
        if features.ndim == 4 and getattr(self.body, "output_fmt", "NCHW") == "NHWC":
            return features.permute(0, 3, 1, 2)
        if features.ndim == 3:  # tokens
            grid = getattr(getattr(self.body, "patch_embed", None), "grid_size", None)
            places = features[:, getattr(self.body, "num_prefix_tokens", 0) :]
            if grid is not None and places.shape[1] == grid[0] * grid[1]:
                return places.transpose(1, 2).unflatten(2, tuple(grid))
        if features.ndim != 4:
            kind = type(self.body).__name__
            raise ValueError(f"timm's {kind} gives features {tuple(features.shape)}, no map; choose another network")
        return features

    def forward(self, x: Float[Tensor, "B C S S"]) -> Float[Tensor, "B K"]:
        """Logits."""
        return self.fc(self.dropout(self.forward_features(x).mean((2, 3))))


class CLIPImages(nn.Module):
    """CLIP on still images: images (B, 3, H, W) in 0..255 -> scaled cosines with the class features `text`."""

    text: Tensor

    def __init__(self, backbone: VideoCLIP, text: Float[Tensor, "K D"]):
        super().__init__()
        self.backbone = backbone
        reads_old_name(self, "clip", "backbone")
        self.register_buffer("text", text.detach().clone())

    def forward(self, images: Num[Tensor, "B 3 H W"]) -> Float[Tensor, "B K"]:
        """Logits (B, K): an image is a clip of one frame."""
        return self.classify(self.backbone.encode_frames(images[:, None])[:, 0])

    def encode(self, images: Num[Tensor, "B 3 H W"]) -> tuple[Float[Tensor, "B D"], Float[Tensor, "B D h w"]]:
        """The image feature, which `classify` takes, and the normalised patch tokens in the joint space.

        Raises:
            ValueError: a tower whose patch tokens cannot be projected.
        """
        pooled, tokens = frame_maps(self.backbone, images[:, None])
        return pooled[:, 0], tokens[:, 0]

    def classify(self, pooled: Float[Tensor, "B D"]) -> Float[Tensor, "B K"]:
        """Logits of image features."""
        return self.backbone.classify(pooled[:, None], self.text)

    def directions(self) -> Float[Tensor, "K D"]:
        """The class features."""
        return self.text

    def place_logits(self, features: Float[Tensor, "B D h w"]) -> Float[Tensor, "B K h w"]:
        """Scaled cosines of every place with the class features."""
        return self.scale * torch.einsum("kd,bdhw->bkhw", self.text, features.to(self.text.dtype))

    @property
    def preprocessing(self) -> Preprocessing:
        """How pictures become images of the tower."""
        return self.backbone.preprocessing

    @property
    def scale(self) -> Float[Tensor, ""]:
        """Multiplier of the cosines."""
        return self.backbone.logit_scale.exp().detach()


def frame_maps(
    backbone: VideoCLIP, frames: Num[Tensor, "B T 3 H W"]
) -> tuple[Float[Tensor, "B T D"], Float[Tensor, "B T D h w"]]:
    """Frame features as `backbone.encode_frames` has them, and normalised patch tokens of every frame, in one pass.

    Raises:
        ValueError: a tower whose patch tokens cannot be projected.
    """
    pooled, tokens = patch_tokens(backbone.visual, backbone.normalize_images(frames.flatten(0, 1)))
    size = frames.shape[:2]
    return pooled.unflatten(0, size), F.normalize(tokens.float(), dim=1).unflatten(0, size)


def patch_tokens(
    visual: nn.Module, images: Float[Tensor, "B 3 H W"]
) -> tuple[Float[Tensor, "B D"], Float[Tensor, "B D h w"]]:
    """Image features and patch tokens of an open_clip tower, both projected into the joint space, in one pass.

    Raises:
        ValueError: a tower without patch tokens, or whose tokens are of another width and have no projection.
    """
    kind = type(visual).__name__
    run = getattr(visual, "forward_intermediates", None)
    if run is None:
        raise ValueError(f"the visual tower {kind} gives no patch tokens; take a ViT")
    all_tokens(visual)
    found = run(images, indices=1, normalize_intermediates=True, output_fmt="NCHW")
    pooled, tokens = found["image_features"], found["image_intermediates"][-1]
    projection = getattr(visual, "proj", None)
    if isinstance(projection, Tensor) and projection.shape[0] == tokens.shape[1]:
        tokens = torch.einsum("de,bdhw->behw", projection, tokens)
    if tokens.shape[1] != pooled.shape[1]:
        raise ValueError(
            f"the visual tower {kind} has patch tokens of width {tokens.shape[1]}, its features {pooled.shape[1]}, and "
            "no projection between them; take a ViT"
        )
    return pooled, tokens


def load_net_weights(model: ImageClassifier, file: Path) -> None:
    """Put the weights of `file` (.safetensors, or a state dict of torch.save) into the network, all but its head.

    Prefixes (`module.`, `backbone.`, `net.`, `net.body.`) and wrappers (`state_dict`, `model`) are
    understood, and so is another head.

    Raises:
        ValueError: one line: the file cannot be read safely, or lacks weights of this network, or has other shapes.
    """
    weights = _read_weights(file)
    target: nn.Module = getattr(model.net, "body", model.net)
    wanted = {name: value for name, value in target.state_dict().items() if not name.startswith("fc.")}
    first = next(iter(wanted))
    prefixes = {name.removesuffix(first) for name in weights if name == first or name.endswith(f".{first}")} or {""}
    prefix = max(sorted(prefixes), key=lambda prefix: sum(prefix + name in weights for name in wanted))
    found = {name: weights.get(prefix + name) for name in wanted}
    optional = {name for name in wanted if name.endswith("num_batches_tracked")}
    lacking = [name for name, value in found.items() if value is None and name not in optional]
    odd = [name for name, value in found.items() if value is not None and value.shape != wanted[name].shape]
    if lacking or odd:
        parts = [f"{len(lacking)} weights are missing, such as {lacking[0]}"] if lacking else []
        for name in odd[:1]:
            shapes = f"{tuple(found[name].shape)} for {tuple(wanted[name].shape)}"  # type: ignore[union-attr]
            parts.append(f"{len(odd)} have another shape, such as {name} ({shapes})")
        raise ValueError(f"{file}: does not fit this network: {'; '.join(parts)}")
    given = {name: value for name, value in found.items() if value is not None}
    check_numbers(given, wanted, file)
    target.load_state_dict(given, strict=False)


def _read_weights(file: Path) -> dict[str, Tensor]:
    try:
        if file.suffix == ".safetensors":
            return load_file(file)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torch about old archives
            weights = torch.load(file, map_location="cpu", weights_only=True)
    except (OSError, SafetensorError, RuntimeError, ValueError, EOFError) as error:
        raise ValueError(f"{file}: cannot be read as weights: {' '.join(str(error).split())[:200]}") from None
    except Exception as error:  # pickle's errors have no common base; their text invites to load unsafely
        raise ValueError(f"{file}: cannot be read as weights: it is damaged, or holds more than tensors") from error
    for key in ("state_dict", "model", "model_state_dict"):
        weights = weights[key] if isinstance(weights, dict) and isinstance(weights.get(key), dict) else weights
    if not isinstance(weights, dict) or not any(isinstance(value, Tensor) for value in weights.values()):
        raise ValueError(f"{file}: holds no state dict")
    return {name: value for name, value in weights.items() if isinstance(value, Tensor)}

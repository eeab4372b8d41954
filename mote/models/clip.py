"""CLIP towers from open_clip, and the text feature of every class.

Papers: CLIP (Radford et al., ICML 2021); the class feature is the prompt ensemble of its section 3.1.4, with the 28
templates of MoTE (Zhu et al., NeurIPS 2024). With g the text tower, t_p template p and c_k class name k:

    y_k = normalise(mean_p normalise(g(t_p(c_k))))      logit_k = exp(logit_scale) * <z, y_k>

`names` holds c_k, `templates` holds t_p, `encode_classes` gives y. Only cosines are scaled: the `logit_bias` of SigLIP
models adds the same number to every logit, which changes neither softmax over classes nor arg max, so it is left out.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import open_clip
import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from mote.files.addresses import one_line
from mote.files.names import check_names
from mote.files.preprocessing import AS_CLIP, Preprocessing, checked
from mote.models.clip_weights import (
    backbone_config,
    build_backbone,
    load_model,
    quiet_root_logger,
)
from mote.models.names import SCHEMAS, is_plain, parse_model_name
from mote.models.old_names import reads_old_name
from mote.models.plain_import import import_rest
from mote.models.text_tokens import check_tokens
from mote.models.tiny import TinyTokenizer
from mote.parallel.cores import all_cores

__all__ = [
    "ClassFeatures",
    "TextTower",
    "Towers",
    "backbone_config",
    "build_backbone",
    "encode_classes",
    "load_backbone",
    "parse_model_name",
]


@dataclass(frozen=True, eq=False)
class Towers:
    """The two towers of a CLIP model, in eval mode, and what is needed to feed them.

    visual: images (N, 3, image_size, image_size), normalised with `mean` and `std` -> features (N, embed_dim).
    encode_text: list of n texts -> features (n, embed_dim), not normalised; a `TextTower`, so `.to(device)` moves it.
    logit_scale: logarithm of the factor on the cosines.
    mean, std: statistics of the RGB channels of pixels in [0, 1].
    preprocessing: how a picture becomes such an image, by open_clip's preprocessing configuration.
    text_width: width of the text transformer (the embedding width where the text tower does not tell).
    name, pretrained: as given to `load_backbone`.
    """

    visual: nn.Module
    encode_text: Callable[[list[str]], Tensor]
    logit_scale: Float[Tensor, ""]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    image_size: int
    embed_dim: int
    text_width: int
    name: str
    pretrained: str | None
    preprocessing: Preprocessing = AS_CLIP


class TextTower(nn.Module):
    """Texts to features: tokenizer and text half of an open_clip model (its `visual` must have been taken out)."""

    def __init__(self, backbone: nn.Module, tokenizer: Callable[[list[str]], Tensor]):
        super().__init__()
        self.backbone = backbone
        self.tokenizer = tokenizer
        reads_old_name(self, "clip", "backbone")

    def forward(self, texts: list[str]) -> Float[Tensor, "n D"]:
        """Features (n, D) of n texts, not normalised; texts longer than the context are cut by the tokenizer."""
        return self.encode(self.tokenizer(texts).to(next(self.backbone.parameters()).device))

    def encode(self, tokens: Int64[Tensor, "n context"]) -> Float[Tensor, "n D"]:
        """Features of token ids, not normalised."""
        backbone: Any = self.backbone
        return backbone.encode_text(tokens)


def load_backbone(name: str, pretrained: str | Path | None = None, precision: str = "fp32") -> Towers:
    """Towers of a CLIP model with its weights.

    Args:
        name: "tiny", an open_clip architecture, "hf-hub:..." or "local-dir:...".
        pretrained: an open_clip tag, a local checkpoint file (.safetensors, .pt, .bin; also a state dict saved from
            OpenAI's archives), or "random" for weights from torch's global generator. None means the shipped weights
            for "tiny" and the weights at the place named for hf-hub: and local-dir:; any other name needs a choice.
            A file does not say how its images were prepared: what all tags of `name` have in common is taken, OpenAI's
            way where tags differ or there are none.
        precision: "fp32", "bf16" or "fp16" (linear layers and convolutions), "pure_bf16" or "pure_fp16" (everything);
            below fp32, `visual` expects frames of that type.

    Raises:
        ValueError: unknown name, tag or precision, a file that does not hold weights of this architecture, or a
            preprocessing that is none of open_clip's.
        FileNotFoundError: `pretrained` looks like a file and there is none.
        RuntimeError: weights or configuration could not be downloaded, or a package the model needs is missing.
    """
    embed_dim = backbone_config(name)["embed_dim"]
    tokenizer = _tokenizer(name)  # before the weights: a missing package should not cost a download
    model: Any = load_model(name, pretrained, precision).eval()
    prepared = open_clip.get_model_preprocess_cfg(model)
    visual, text_width = model.visual, _text_width(model, embed_dim)
    del model.visual
    return Towers(
        visual=visual,
        encode_text=TextTower(model, tokenizer).eval(),
        logit_scale=model.logit_scale.detach().float().reshape(()).clone(),
        mean=tuple(prepared["mean"]),
        std=tuple(prepared["std"]),
        image_size=_square(name, visual.image_size),
        embed_dim=embed_dim,
        text_width=text_width,
        name=name,
        pretrained=None if pretrained is None else str(pretrained),
        preprocessing=_preprocessing(name, prepared),
    )


class ClassFeatures(nn.Module):
    """Class features y as a function of a text tower that is being tuned: `forward` gives them with their gradient.

    Args:
        tower: the text tower; part of this module.
        names, templates: as in `encode_classes`; every call costs K * P passes of the tower, so take few templates.

    Raises:
        ValueError: as `encode_classes`.
    """

    tokens: Tensor

    def __init__(self, tower: TextTower, names: Sequence[str], templates: Sequence[str]):
        super().__init__()
        _check_prompts(names, templates)
        check_tokens(tower.tokenizer, names, templates)
        self.tower, self.num_classes = tower, len(names)
        texts = [template.replace("{}", name) for name in names for template in templates]
        self.register_buffer("tokens", tower.tokenizer(texts), persistent=False)  # (K * P, context)

    def forward(self) -> Float[Tensor, "K D"]:
        """y (K, D), float32, each of length 1."""
        features = F.normalize(self.tower.encode(self.tokens).float(), dim=-1).unflatten(0, (self.num_classes, -1))
        return F.normalize(features.mean(dim=1), dim=-1)

    def set_gradient_checkpointing(self, enabled: bool) -> None:
        """Recompute the text tower's activations in backward to save memory."""
        backbone: Any = self.tower.backbone
        switch = getattr(getattr(backbone, "text", None), "set_grad_checkpointing", None)
        if switch is not None:
            switch(enabled)
        else:
            backbone.transformer.grad_checkpointing = enabled


@torch.no_grad()
def encode_classes(
    towers: Towers,
    names: Sequence[str],
    templates: Sequence[str],
    batch_size: int = 64,
    device: torch.device | str | None = None,
) -> Float[Tensor, "K D"]:
    """Text features y (K, D) of K class names, float32, each of length 1, on the device of the text tower.

    Costs K * P passes of the text tower for P templates, `batch_size` at a time: compute once per vocabulary and keep.
    On the CPU the result is the same, bit for bit, for any number of threads.
    Names go into the templates as they are (an underscore stays an underscore). `device`: where to move the text tower
    first; None leaves it.

    Raises:
        ValueError: no names, an empty one, two that are the same or have the same tokens, no templates, or a template
            without exactly one `{}`.
    """
    _check_prompts(names, templates)
    if isinstance(towers.encode_text, TextTower):
        check_tokens(towers.encode_text.tokenizer, names, templates)
    if device is not None and isinstance(towers.encode_text, nn.Module):
        towers.encode_text.to(device)
    count = len(names) * len(templates)

    def prompts(start: int) -> list[tuple[int, str]]:
        """(class, text) of one batch; not all at once, which takes more memory than the features."""
        numbers = (divmod(i, len(templates)) for i in range(start, min(start + batch_size, count)))
        return [(k, templates[p].replace("{}", names[k])) for k, p in numbers]

    @torch.no_grad()
    def encode(start: int) -> Float[Tensor, "n D"]:
        return F.normalize(towers.encode_text([text for _, text in prompts(start)]).float(), dim=-1)

    total, starts = None, range(0, count, batch_size)
    with (
        all_cores(_device(towers.encode_text)) as ordered_map,
        tqdm(total=count, desc="encode names", unit="prompt", disable=None, delay=2) as bar,
    ):
        for start, features in zip(starts, ordered_map(encode, starts), strict=True):
            total = features.new_zeros(len(names), features.shape[1]) if total is None else total
            classes = torch.arange(start, start + len(features), device=features.device) // len(templates)
            total.index_add_(0, classes, features)
            bar.update(len(features))
    assert total is not None
    return F.normalize(total, dim=-1)  # the division by P of the mean cancels here


def _device(tower: Callable) -> torch.device:
    parameters = tower.parameters() if isinstance(tower, nn.Module) else iter(())
    return next((p.device for p in parameters), torch.device("cpu"))


def _check_prompts(names: Sequence[str], templates: Sequence[str]) -> None:
    if isinstance(names, str) or isinstance(templates, str):
        raise ValueError("expected lists of class names and of templates, got a single string; put it in a list")
    if not names or not templates:
        raise ValueError(f"expected at least one class name and one template, got {len(names)} and {len(templates)}")
    twice = [repr(name) for name, count in Counter(names).items() if count > 1]
    if twice:
        raise ValueError(f"class names must differ; more than once: {', '.join(twice)}")
    check_names(names)
    for template in templates:
        if template.count("{}") != 1:
            raise ValueError(f"template {template!r}: expected exactly one {{}}, where the class name goes")


def _tokenizer(name: str) -> Callable[[list[str]], Tensor]:
    if name == "tiny":
        return TinyTokenizer()
    if not is_plain(name):
        import_rest()
    try:
        with quiet_root_logger():
            return open_clip.get_tokenizer(name if name.startswith(SCHEMAS) else name.replace("/", "-"))
    except (RuntimeError, OSError, ImportError, ValueError) as error:
        raise RuntimeError(f"{name}: cannot build its tokenizer: {one_line(error)}") from error


def _preprocessing(name: str, prepared: Mapping[str, Any]) -> Preprocessing:
    """open_clip's configuration as our value. A filter drawn at random in training is bicubic in use, as there."""
    filter = prepared.get("interpolation") or "bicubic"
    resize = prepared.get("resize_mode") or "shortest"
    try:
        return checked("bicubic" if filter == "random" else filter, resize, prepared.get("fill_color") or 0)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None


def _text_width(model: nn.Module, embed_dim: int) -> int:
    embedding = getattr(getattr(model, "text", model), "token_embedding", None)
    return embed_dim if embedding is None else embedding.embedding_dim


def _square(name: str, size: int | Sequence[int]) -> int:
    height, width = (size, size) if isinstance(size, int) else size
    if height != width:
        raise ValueError(f"{name}: expected a tower for square images, got {height} x {width}")
    return int(height)

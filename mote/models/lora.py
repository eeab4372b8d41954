"""Low-rank adapters (LoRA) on CLIP towers, through peft.

Paper: LoRA (Hu et al., ICLR 2022): a frozen weight W is used as W + (alpha / rank) * B A, with A (rank, in) drawn at
random and B (out, rank) zero at the start, so that training starts from the original model. `add_adapters` finds the
layers of a preset by their place in the tower and then *runs* the tower, and refuses where an adapter gets no gradient.

Three things that peft 0.21 or timm do are mended here, because each breaks training silently:

- peft's layer for nn.MultiheadAttention adds B A to the base weights before each forward pass and subtracts it again,
  which makes frozen weights drift by rounding, replaces the Parameter objects, and adds the delta of `out_proj` twice.
  `MultiheadAttention` runs the same layer on W + B A without touching W; adapter files keep peft's names and format.
- The `out_proj` of nn.MultiheadAttention is never called, so an adapter on it alone (`all-linear`) is dead.
- timm's fused EVA attention reads `qkv.weight` past an adapter where it has a bias; its other form calls `qkv`.

peft needs seconds to import: import this file where adapters are asked for.
"""

import copy
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora.layer import MultiheadAttention as PeftMultiheadAttention
from peft.tuners.tuners_utils import check_adapters_to_merge
from torch import Tensor, nn
from torch.func import functional_call

from mote.files.writing import replacing_together

PRESETS = ("attention", "mlp", "all")


class MultiheadAttention(PeftMultiheadAttention):
    """Adapters on in_proj and out_proj of an nn.MultiheadAttention that leave its weights alone; peft's names."""

    def forward(self, query: Tensor, *args: object, **kwargs: object) -> tuple[Tensor, Tensor | None]:
        """The base layer's result with W + scaling * B A in the place of W, for in_proj and out_proj."""
        base = self._base()
        if self.disable_adapters or self.merged:
            return base(query, *args, **kwargs)
        with torch.autocast(query.device.type, enabled=False):  # as exact as merging
            weights = {
                "in_proj_weight": base.in_proj_weight + self._delta(self),
                "out_proj.base_layer.weight": base.out_proj.base_layer.weight + self._delta(base.out_proj),
            }
        return functional_call(base, weights, (query, *args), kwargs)

    def _base(self) -> Any:
        """The nn.MultiheadAttention, whose `out_proj` has adapters of its own."""
        return self.get_base_layer()

    def _delta(self, layer: Any) -> Tensor:
        return torch.stack([layer.get_delta_weight(name) for name in self.active_adapters]).sum(0)

    def merge(self, safe_merge: bool = False, adapter_names: list[str] | None = None) -> None:
        """Add the adapters to the base weights, once each. Raises ValueError for NaN with `safe_merge`."""
        base = self._base()
        for name in check_adapters_to_merge(self, adapter_names):
            weight = base.in_proj_weight.data + self.get_delta_weight(name)
            if safe_merge and not torch.isfinite(weight).all():
                raise ValueError(f"the adapter {name} of an attention layer is not finite")
            base.in_proj_weight.data = weight
            base.out_proj.merge(safe_merge=safe_merge, adapter_names=[name])
            self.merged_adapters.append(name)

    def unmerge(self) -> None:
        """Take the adapters out of the base weights again, up to rounding."""
        base = self._base()
        while self.merged_adapters:
            base.in_proj_weight.data -= self.get_delta_weight(self.merged_adapters.pop())
        base.out_proj.unmerge()

    def unload_and_optionally_merge_module(
        self, merge: bool, safe_merge: bool, adapter_names: list[str] | None
    ) -> nn.MultiheadAttention:
        """The plain layer back, with the adapters added to its weights where `merge` says so."""
        if merge:
            self.merge(safe_merge=safe_merge, adapter_names=adapter_names)
        base = self._base()
        base.out_proj = base.out_proj.get_base_layer()
        return base

    def _restore_weights(self) -> None:
        """Nothing to restore: the base weights never leave their place."""


def adapted_layers(tower: nn.Module, preset: str) -> list[str]:
    """Names of the layers that a preset adapts: of attention, of the feed-forward networks ("mlp"), or "all" of both.

    Attention is every nn.MultiheadAttention (its in_proj and out_proj together) and every nn.Linear below a module
    named attn...; MLP every nn.Linear below a module named mlp. Embeddings and final projections belong to neither.

    Raises:
        ValueError: an unknown preset, or a tower without such layers.
    """
    if preset not in PRESETS:
        raise ValueError(f"unknown preset {preset!r} of adapted layers; choose from {', '.join(PRESETS)}")
    found: dict[str, list[str]] = {"attention": [], "mlp": []}
    inside = tuple(f"{name}." for name, m in tower.named_modules() if isinstance(m, nn.MultiheadAttention))
    for name, module in tower.named_modules():
        parts = name.split(".")
        if isinstance(module, nn.MultiheadAttention):
            found["attention"].append(name)
        elif isinstance(module, nn.Linear) and not name.startswith(inside):
            if "mlp" in parts[:-1]:  # before attn: the pooling of SigLIP has an mlp below attn_pool
                found["mlp"].append(name)
            elif any(part.startswith("attn") for part in parts[:-1]):
                found["attention"].append(name)
    layers = found["attention"] + found["mlp"] if preset == "all" else found[preset]
    if not layers:
        raise ValueError(f"{type(tower).__name__} has no layers that the preset {preset!r} names; tune it in full")
    return layers


def add_adapters(
    tower: nn.Module, run: Callable[[nn.Module], Tensor], *, preset: str = "all", rank: int = 16, alpha: float = 16.0
) -> PeftModel:
    """Freeze `tower` and put adapters on it, in place; returns it in peft's wrapper, which calls like the tower.

    Args:
        tower: an open_clip visual tower, or an open_clip model for its text tower.
        run: the wrapped tower -> features of an example, to prove by its gradients that every adapter takes part.
        preset: see `adapted_layers`.
        rank: of the adapters; alpha: their update is scaled by alpha / rank.

    Raises:
        ValueError: no layers to adapt, or adapters that the tower does not use; the message names them.
    """
    config = LoraConfig(r=rank, lora_alpha=alpha, target_modules=adapted_layers(tower, preset))  # type: ignore[arg-type]
    _call_fused_projections(tower, True)
    return _proven(_wrapped(tower, config), run)


def load_adapters(tower: nn.Module, folder: Path | str) -> PeftModel:
    """`tower` (in place) with the adapters of a folder in peft's format, see `save_adapters`.

    Raises:
        ValueError, OSError: files that are missing or do not fit the tower.
    """
    from peft import set_peft_model_state_dict
    from safetensors.torch import load_file

    config = LoraConfig.from_pretrained(str(folder))
    assert isinstance(config, LoraConfig)
    config.inference_mode = False  # files say true, and the adapters would be frozen
    _call_fused_projections(tower, True)
    model = _wrapped(tower, config)
    names = {name.replace(".default", "") for name, _ in model.named_parameters() if ".lora_" in name}
    state = load_file(Path(folder) / "adapter_model.safetensors")
    if names != set(state):
        odd = sorted(names ^ set(state))
        raise ValueError(f"{folder}: adapters do not fit this tower: {', '.join(odd[:4])} ({len(odd)} in all)")
    set_peft_model_state_dict(model, state)
    return model


def save_adapters(tower: PeftModel, folder: Path) -> None:
    """Write adapter_config.json and adapter_model.safetensors as peft does, both or neither."""
    with tempfile.TemporaryDirectory() as temporary, replacing_together(folder) as stage:
        tower.save_pretrained(temporary, save_embedding_layers=False)
        for name in ("adapter_model.safetensors", "adapter_config.json"):
            shutil.copyfile(Path(temporary, name), stage / name)


def merged(tower: nn.Module) -> nn.Module:
    """A plain copy of the tower with the adapters added to its weights; `tower` itself where it has none."""
    if not isinstance(tower, PeftModel):
        return tower
    plain = copy.deepcopy(tower).merge_and_unload(safe_merge=True)  # type: ignore[operator]
    _call_fused_projections(plain, False)
    return plain


def _wrapped(tower: nn.Module, config: LoraConfig) -> PeftModel:
    config._register_custom_module({nn.MultiheadAttention: MultiheadAttention})
    return get_peft_model(tower, config)  # type: ignore[arg-type, return-value]


def _call_fused_projections(tower: nn.Module, enabled: bool) -> None:
    """Make timm's EVA attention call `qkv` and add its bias apart; False undoes it where this function did it."""
    module: Any
    for module in tower.modules():
        separate = getattr(module, "qkv_bias_separate", None)
        if enabled and separate is False:
            module.qkv_bias_separate = "for adapters"  # true, and told apart from a layer built so
        elif not enabled and separate == "for adapters":
            module.qkv_bias_separate = False


def _proven(model: PeftModel, run: Callable[[nn.Module], Tensor]) -> PeftModel:
    """`model`, after one backward pass has reached the second factor (B) of every adapter; gradients are dropped."""
    mode = model.training
    run(model.eval()).square().sum().backward()
    dead = [
        name.partition(".lora_B")[0].removeprefix("base_model.model.")
        for name, p in model.named_parameters()
        if ".lora_B." in name and (p.grad is None or not p.grad.any())
    ]
    model.zero_grad(set_to_none=True)
    model.train(mode)
    if dead:
        raise ValueError(f"adapters without effect (the tower does not call these layers): {', '.join(dead)}")
    return model

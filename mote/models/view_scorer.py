"""From the views of a video to logits: tower, temporal head, gate, classes.

Axes: B videos, V views, T frames, D embedding, K classes.
"""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager

import torch
from einops import rearrange
from jaxtyping import Float, UInt8
from torch import Tensor

from mote.models.modulation import GATE, Gate, modulation_gate
from mote.models.video_clip import VideoCLIP
from mote.parallel.precision import Precision

Batch = Mapping[str, Tensor]
# Views that go through the temporal head at once on a CPU, whatever the batch. How sums are rounded depends on the
# number of rows of a matrix product, and neither on the place of a row nor on the other rows: so a view has one score,
# bit for bit. A view in calls of 8 costs a seventh (width 128) or two sevenths (width 512) of one alone, and 1.2 to 1.5
# times as much as in calls of 64 (4 layers, 8 frames).
CALL = 8


def view_scorer(
    model: VideoCLIP,
    text: Float[Tensor, "K D"],
    tuned_text: Float[Tensor, "F D"] | None = None,
    *,
    gate: Gate = GATE,
    factor: float = 1.0,
    precision: Precision = "fp32",
    offset: Float[Tensor, "K"] | None = None,
) -> Callable[[Batch], Float[Tensor, "B V K"]]:
    """A function from a batch to scaled logits (B,V,K).

    The batch has `features` (B,V,T,D) of the frames, or `frames` (B,V,T,3,H,W) uint8. On a CPU the logits of a view
    depend, bit for bit, on its features alone, and not on the other views of the batch.

    Args:
        model: in evaluation mode.
        text: class features, L2-normalised.
        tuned_text: features of the fine-tuning classes: the temporal branch of every view is multiplied by temporal
            feature modulation (MoTE eq. 11). None: by `factor`.
        gate: settings of the modulation.
        factor: of the temporal branch where there is no `tuned_text`.
        precision: of the matrix products.
        offset: added to the logits.
    """

    def logits(views: Float[Tensor, "N T D"]) -> Float[Tensor, "N K"]:
        rho = factor if tuned_text is None else modulation_gate(views.mean(1), text, tuned_text, gate)
        found = model.classify(model.head(views, gate=rho), text)
        return found if offset is None else found + offset

    @torch.inference_mode()
    def score(batch: Batch) -> Float[Tensor, "B V K"]:
        with autocast(precision, text.device):
            given = batch["features"] if "features" in batch else encode_views(model, batch["frames"])
            views = rearrange(given, "b v t d -> (b v) t d")
            found = in_calls(logits, views)
        return rearrange(found, "(b v) k -> b v k", v=given.shape[1])

    return score


def in_calls(function: Callable[[Tensor], Tensor], views: Float[Tensor, "N T D"]) -> Float[Tensor, "N ..."]:
    """`function` of all views; on a CPU of `CALL` at a time, the last call filled up with copies of the last view."""
    if views.device.type != "cpu":
        return function(views)
    found = []
    for call in views.split(CALL):
        more = call[-1:].expand(CALL - len(call), -1, -1)
        found.append(function(torch.cat([call, more]) if len(more) else call)[: len(call)])
    return torch.cat(found)


def encode_views(model: VideoCLIP, frames: UInt8[Tensor, "B V T 3 H W"]) -> Float[Tensor, "B V T D"]:
    """Frame features of several views, in float32."""
    features = model.encode_frames(rearrange(frames, "b v t c h w -> (b v) t c h w"))
    return rearrange(features, "(b v) t d -> b v t d", v=frames.shape[1]).float()


def autocast(precision: Precision, device: torch.device) -> AbstractContextManager:
    """What a model from `in_bf16` is run under; for fp32, nothing."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")

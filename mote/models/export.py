"""A folded model as one graph that runs without this package: torch.export programs and ONNX files.

The graph takes uint8 frames (B, T, 3, H, W), any B, and gives logits (B, K): pixels are normalised inside, class
features are constants of the graph or a second input (K, D), any K >= 1. Temporal feature modulation, where it is on,
is part of the graph (see `modulation`). What a caller must do before is told by the text stored under `NOTE`.
"""

from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.export import Dim

from mote.files.patient import PatientFile
from mote.models.modulation import GATE, Gate, modulation_gate
from mote.models.video_clip import VideoCLIP

NOTE = "mote"  # name of the text in the metadata of every exported file
ONNX_LIMIT = 2 * 1000**3 - 50 * 1000**2  # bytes of weights; a protocol buffer holds less than 2 GB


class FramesToLogits(nn.Module):
    """From uint8 frames to logits with everything but the frames, and if wanted the class features, built in.

    Args:
        model: folded, in evaluation mode; used, not copied.
        text: class features (K, D), L2-normalised; None makes them the second argument of `forward`.
        tuned_text: features of the fine-tuning classes, for the gate of modulation; None = no gate.
        gate: settings of the gate.
    """

    text: Tensor | None
    tuned_text: Tensor | None

    def __init__(
        self,
        model: VideoCLIP,
        text: Float[Tensor, "K D"] | None,
        tuned_text: Float[Tensor, "F D"] | None = None,
        gate: Gate = GATE,
    ):
        super().__init__()
        self.model, self.gate = model, gate
        # Copies: the exporter takes tensors of one storage for one tensor, also when one of them is an input.
        self.register_buffer("text", None if text is None else text.clone())
        self.register_buffer("tuned_text", None if tuned_text is None else tuned_text.clone())

    def forward(
        self, frames: UInt8[Tensor, "B T 3 H W"], text: Float[Tensor, "K D"] | None = None
    ) -> Float[Tensor, "B K"]:
        """Logits: exp(logit_scale) * cosine of the clip with each class."""
        text = self.text if text is None else text
        assert text is not None
        features, gate = self.model.encode_frames(frames), 1.0
        if self.tuned_text is not None:
            gate = modulation_gate(features.mean(1), text, self.tuned_text, self.gate)
        return self.model.classify(self.model.head(features, gate=gate), text)


def write_program(module: FramesToLogits, path: Path, note: str, *, frames: int, size: int) -> None:
    """Write a torch.export program (.pt2); `torch.export.load(path).module()(frames)` needs only torch.

    `frames`, `size`: T and H = W of the clips. `note` comes back in `extra_files` of `torch.export.load`.
    """
    args, shapes = _example(module, frames, size)
    with torch.no_grad():
        program = torch.export.export(module.eval(), args, dynamic_shapes=shapes)
    _forget_source(program.graph_module)
    # Of a path, the archive would keep the name, which is temporary, and abort the process where a write fails.
    with PatientFile(path) as file:
        torch.export.save(program, file, extra_files={NOTE: note})  # type: ignore[arg-type]


def write_onnx(module: FramesToLogits, path: Path, note: str, *, frames: int, size: int) -> None:
    """Write an ONNX file with inputs `frames` (and `text`) and output `logits`; `note` is in its metadata.

    Raises:
        ValueError: more weights than fit into one ONNX file.
    """
    weights = sum(t.numel() * t.element_size() for t in [*module.parameters(), *module.buffers()])
    if weights > ONNX_LIMIT:
        raise ValueError(
            f"{weights / 1e9:.1f} GB of weights, but one ONNX file holds less than 2 GB; take torch-export"
        )
    args, shapes = _example(module, frames, size)
    with torch.no_grad():
        program: Any = torch.onnx.export(
            module.eval(), args, dynamo=True, dynamic_shapes=shapes, output_names=["logits"], verbose=False
        )
    for part in (program.model.graph, *program.model.functions.values()):
        for node in part.all_nodes():  # each says where in the source it comes from
            node.metadata_props.clear()
            node.doc_string = None
            for value in node.outputs:
                value.metadata_props.clear()
    program.model.metadata_props[NOTE] = note
    program.save(path, external_data=False)


def _forget_source(module: nn.Module) -> None:
    """Remove from a traced module, and those inside it, the lines of source that its nodes come from."""
    for part in module.modules():
        if isinstance(part, torch.fx.GraphModule):
            for node in part.graph.nodes:
                for key in ("stack_trace", "from_node", "source_fn_stack"):
                    node.meta.pop(key, None)


def _example(module: FramesToLogits, frames: int, size: int) -> tuple[tuple[Tensor, ...], dict[str, dict[int, Dim]]]:
    """Inputs to trace with, and which of their sizes stay open. Sizes of 0 and 1 would be taken as fixed."""
    clips = torch.zeros(2, frames, 3, size, size, dtype=torch.uint8)
    clips[1] = 255
    batch = {0: Dim("batch", min=1, max=2**20)}
    if module.text is not None:
        return (clips,), {"frames": batch}
    text = torch.eye(7, module.model.embed_dim)
    return (clips, text), {"frames": batch, "text": {0: Dim("classes", min=1, max=2**20)}}

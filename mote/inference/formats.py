"""Formats of exported models: by name or suffix, and what each needs; known before torch is imported."""

from pathlib import Path

from mote.files.extras import check_extra

FORMATS = {"safetensors": ".safetensors", "torch-export": ".pt2", "onnx": ".onnx"}
ONNX_PACKAGES = ("onnx", "onnxscript", "onnxruntime")


def format_of(format: str | None, out: Path) -> str:
    """The format by name or by suffix; the packages it needs are there."""
    by_suffix = {suffix: name for name, suffix in FORMATS.items()}
    format = format or by_suffix.get(out.suffix)
    if format not in FORMATS:
        given = f"{out.name!r}" if format is None else f"{format!r}"
        raise ValueError(f"export format of {given}: expected one of {', '.join(FORMATS)}")
    if out.suffix != FORMATS[format]:
        raise ValueError(f"{out}: expected a name that ends in {FORMATS[format]} for {format}")
    if format == "onnx":
        check_extra("onnx", ONNX_PACKAGES, "onnx export")
    return format

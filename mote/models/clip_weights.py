"""CLIP models by name, and where their weights come from: open_clip's tags, a local file, or the random generator.

For the names see `names`. Only open_clip's factory functions are used. Weights are read without running code from
the file (`torch.load(weights_only=True)`, safetensors).
"""

import json
import logging
import tempfile
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import open_clip
import torch
from safetensors.torch import load_file
from torch import nn

from mote.files.addresses import one_line
from mote.models.names import SCHEMAS, check_known, is_file_name, is_plain, is_plain_config, tags, which_weights
from mote.models.plain_import import import_rest
from mote.models.tensor_files import Tensors, check_numbers
from mote.models.tiny import TINY_WEIGHTS, tiny_config

PRECISIONS = ("fp32", "bf16", "fp16", "pure_bf16", "pure_fp16")
# Three numbers that state dicts of OpenAI's archives carry beside the weights; open_clip refuses them as unexpected.
OPENAI_EXTRAS = {"input_resolution", "context_length", "vocab_size"}


def backbone_config(name: str) -> dict[str, Any]:
    """Architecture of a model as open_clip's configuration dict: embed_dim, vision_cfg, text_cfg, ...

    Raises:
        ValueError: `name` is no open_clip architecture; the message lists the nearest ones.
        RuntimeError: an hf-hub: or local-dir: name whose configuration cannot be read.
    """
    if name == "tiny":
        return tiny_config()
    if name.startswith(SCHEMAS):
        try:
            return open_clip.get_model_config(name) or {}
        except (OSError, RuntimeError, ValueError) as error:
            raise RuntimeError(f"{name}: cannot read the model configuration: {one_line(error)}") from error
    check_known(name)
    return cast(dict[str, Any], open_clip.get_model_config(name.replace("/", "-")))


def weights_file(name: str, pretrained: str | None) -> Path | None:
    """The file that `pretrained` names, where it is neither a tag of the model `name`, nor "random", nor left out."""
    if pretrained is None or pretrained == "random" or open_clip.get_pretrained_cfg(name.replace("/", "-"), pretrained):
        return None
    return Path(pretrained).expanduser()


def build_backbone(architecture: str | dict[str, object], precision: str = "fp32") -> nn.Module:
    """The open_clip model of a name or configuration dict, randomly initialised from torch's global generator.

    Its `visual` returns pooled features only, also where the original returns tokens beside them (CoCa).

    Raises:
        ValueError: unknown name or precision, or a dict without embed_dim, vision_cfg and text_cfg.
    """
    check_precision(precision)
    config = backbone_config(architecture) if isinstance(architecture, str) else architecture
    lacking = [key for key in ("embed_dim", "vision_cfg", "text_cfg") if key not in config]
    if lacking:
        raise ValueError(f"model configuration: expected embed_dim, vision_cfg, text_cfg; lacks {', '.join(lacking)}")
    if not is_plain_config(config):
        import_rest()
    with tempfile.TemporaryDirectory() as folder:  # add_model_config would leave the model in a global table
        Path(folder, "open_clip_config.json").write_text(json.dumps({"model_cfg": config}), encoding="utf-8")
        return _create(f"local-dir:{folder}", precision=precision, load_weights=False, pretrained_text=False)


def load_model(name: str, pretrained: str | Path | None, precision: str) -> nn.Module:
    """The open_clip model of a name with the weights `pretrained` asks for; see `load_backbone`."""
    check_precision(precision)
    if not is_plain(name):
        import_rest()
    if str(pretrained) == "random":
        return _random(name, precision)
    if name.startswith(SCHEMAS):
        if pretrained is not None:
            raise ValueError(f"{name} brings its own weights: expected pretrained=None, got {str(pretrained)!r}")
        return _fetch(name, None, precision, "there")
    if name == "tiny":
        return _from_file(name, TINY_WEIGHTS if pretrained is None else Path(pretrained).expanduser(), precision)
    name = name.replace("/", "-")
    source = open_clip.get_pretrained_cfg(name, str(pretrained))
    if source:
        return _fetch(name, str(pretrained), precision, source.get("hf_hub") or source.get("url") or "its address")
    path = Path("") if pretrained is None else Path(pretrained).expanduser()
    if is_file_name(path):
        return _from_file(name, path, precision)
    raise ValueError(which_weights(name, None if pretrained is None else str(pretrained), tags(name) or []))


def check_precision(precision: str) -> None:
    """Raise ValueError for a precision that open_clip would silently take for fp32."""
    if precision not in PRECISIONS:
        raise ValueError(f"precision: expected one of {', '.join(PRECISIONS)}, got {precision!r}")


@contextmanager
def quiet_root_logger() -> Iterator[None]:
    """Drop what open_clip logs on the root logger: "initialized randomly" for every skeleton, errors it then raises."""

    def reject(_: logging.LogRecord) -> bool:
        return False

    logging.getLogger().addFilter(reject)
    try:
        yield
    finally:
        logging.getLogger().removeFilter(reject)


def _random(name: str, precision: str) -> nn.Module:
    if name == "tiny":
        return build_backbone(name, precision)
    if name.startswith(SCHEMAS):  # with the preprocessing that its configuration names
        return _create(name, precision=precision, load_weights=False, pretrained_text=False)
    name = name.replace("/", "-")
    return _create(name, precision=precision, pretrained_text=False, force_preprocess_cfg=_common(name))


def _fetch(name: str, tag: str | None, precision: str, place: str) -> nn.Module:
    import_rest()  # the client of the Hub
    try:
        return _create(name, tag, precision=precision, require_pretrained=True)
    except (RuntimeError, OSError, ImportError) as error:
        weights = f"weights {tag!r}" if tag else "weights"
        raise RuntimeError(
            f"{name}: could not get the {weights} from {place}: {one_line(error)}; without network, fetch the file "
            "elsewhere and give its path as `pretrained` (hf-hub: models: the folder, as local-dir:folder)"
        ) from error


def _from_file(name: str, path: Path, precision: str) -> nn.Module:
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such checkpoint file for {name}; check the path")
    if zipfile.is_zipfile(path) and any(Path(n).name == "constants.pkl" for n in zipfile.ZipFile(path).namelist()):
        raise ValueError(
            f"{path}: a TorchScript archive, which holds code; save its weights with torch.save(torch.jit.load(file, "
            "map_location='cpu').state_dict(), new_file) and give that file, or use the tag 'openai'"
        )
    try:
        model = _fill(name, path, precision)
    except Warning:
        raise
    except Exception as error:  # a damaged file can raise anything
        raise ValueError(f"{path}: does not hold weights of {name}: {one_line(error)}") from error
    own = model.state_dict()
    check_numbers(own, own, path)
    return model


def _fill(name: str, path: Path, precision: str) -> nn.Module:
    state = _state_dict(path) if name == "tiny" or path.suffix in {".pt", ".pth", ".bin"} else {}
    if name != "tiny" and not OPENAI_EXTRAS & state.keys():
        model = _create(name, str(path), precision=precision, force_preprocess_cfg=_common(name))
        check_numbers(Tensors(path) if path.suffix == ".safetensors" else state, model.state_dict(), path)
        return model
    if name != "tiny" and not backbone_config(name).get("quick_gelu", False):
        warnings.warn(f"{path}: OpenAI's weights expect QuickGELU; did you mean {name}-quickgelu?", stacklevel=5)
    model = build_backbone(name, precision)
    check_numbers(state, model.state_dict(), path)  # torch would cast whole numbers
    model.load_state_dict({key: value for key, value in state.items() if key not in OPENAI_EXTRAS})
    return model


def _state_dict(path: Path) -> dict[str, torch.Tensor]:
    if path.suffix == ".safetensors":
        return load_file(path)
    state = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    return state.get("state_dict", state)


def _create(name: str, pretrained: str | None = None, *, precision: str, **options: Any) -> nn.Module:
    with quiet_root_logger():
        model: Any = open_clip.create_model(name, pretrained, precision=precision, **options)
    if getattr(model.visual, "output_tokens", False):
        model.visual.output_tokens = False  # CoCa: (pooled, tokens) becomes pooled
    return model


def _common(name: str) -> dict[str, Any]:
    """Preprocessing that all pretrained tags of `name` agree on, for weights that come without; mean and std go
    together.
    """
    configs = [open_clip.get_pretrained_cfg(name, tag) for known, tag in open_clip.list_pretrained() if known == name]
    common: dict[str, Any] = {}
    for keys in (("mean", "std"), ("interpolation",), ("resize_mode",)):
        found = [{key: config[key] for key in keys if key in config} for config in configs]
        common |= found[0] if found and all(one == found[0] for one in found) else {}
    return common

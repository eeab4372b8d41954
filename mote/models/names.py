"""Names of CLIP models and their weights, told from open_clip's files: importing open_clip takes seconds.

Names: "tiny" is the built-in model; every open_clip architecture ("ViT-B-16-quickgelu"), "hf-hub:organisation/model"
and "local-dir:folder" work.
"""

import ast
import difflib
import importlib.util
import json
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

SCHEMAS = ("hf-hub:", "local-dir:")
WEIGHT_SUFFIXES = {".pt", ".pth", ".bin", ".safetensors", ".npz", ".npy", ".ckpt"}


def parse_model_name(text: str) -> tuple[str, str | None]:
    """Split "name:tag" at the first colon, "ViT-B-16:openai" for example; without a tag the second item is None.

    hf-hub: and local-dir: names bring their own weights and stay whole.
    """
    if text.startswith(SCHEMAS):
        return text, None
    name, _, tag = text.partition(":")
    if not name:
        raise ValueError(f"{text!r}: expected a model name, such as 'tiny' or 'ViT-B-16-quickgelu:openai'")
    return name, tag or None


def architectures() -> Sequence[str]:
    """Names of open_clip's architectures, also of those that were added to it in this process."""
    loaded = sys.modules.get("open_clip")
    return _installed() if loaded is None else loaded.list_models()


def is_known(name: str) -> bool:
    """Whether `name` is "tiny" or an architecture of open_clip, so that its configuration is here."""
    return name == "tiny" or (not name.startswith(SCHEMAS) and name.replace("/", "-") in architectures())


def is_plain(name: str) -> bool:
    """Whether both towers of an architecture are open_clip's own: not of timm or transformers, nor a captioner.

    Of hf-hub: and local-dir: names nothing is known here, so they are not.
    """
    if name == "tiny":
        return True
    file = _package() / "model_configs" / f"{name.replace('/', '-')}.json"
    if name.startswith(SCHEMAS) or not file.is_file():
        return False
    return is_plain_config(json.loads(file.read_text(encoding="utf-8")))


def is_plain_config(config: Mapping[str, Any]) -> bool:
    """`is_plain` of a configuration as open_clip has them."""
    other = {"hf_model_name", "hf_tokenizer_name", "tokenizer_kwargs"} & {*config["text_cfg"]}
    return not other and "timm_model_name" not in config["vision_cfg"] and "multimodal_cfg" not in config


def check_known(name: str) -> None:
    """Raise ValueError for a name that is no architecture, naming the nearest ones; hf-hub: and local-dir: pass."""
    if name.startswith(SCHEMAS) or is_known(name):
        return
    known = ["tiny", *architectures()]
    close = difflib.get_close_matches(name, known, n=5, cutoff=0.4)
    hint = f"did you mean {', '.join(close)}?" if close else "open_clip.list_models() lists all names"
    raise ValueError(f"unknown CLIP model {name!r}: expected 'tiny' or one of open_clip's {len(known) - 1}; {hint}")


def check_weights(name: str, pretrained: str | None) -> None:
    """Raise where it can be told that `pretrained` names no weights of the model `name`.

    Raises:
        ValueError: unknown name or tag, or a name that needs one.
        FileNotFoundError: it looks like a file, and there is none.
    """
    check_known(name)
    if pretrained == "random" or (name == "tiny" and pretrained is None):
        return
    if name.startswith(SCHEMAS):
        if pretrained is not None:
            raise ValueError(f"{name} brings its own weights: expected pretrained=None, got {pretrained!r}")
        return
    path = Path("") if pretrained is None else Path(pretrained).expanduser()
    if name == "tiny" or is_file_name(path):
        tag = None if pretrained is None else pretrained.lower().replace("-", "_")
        if not path.is_file() and tag not in (tags(name) or ()):
            raise FileNotFoundError(f"{path}: no such checkpoint file for {name}; check the path")
        return
    found = tags(name)
    if found is not None and (pretrained is None or pretrained.lower().replace("-", "_") not in found):
        raise ValueError(which_weights(name, pretrained, found))


def is_file_name(path: Path) -> bool:
    """Whether weights that are named so come from a file and are no tag."""
    return path.is_file() or path.suffix in WEIGHT_SUFFIXES or len(path.parts) > 1


def which_weights(name: str, pretrained: str | None, tags: Sequence[str]) -> str:
    """The message about weights that are missing or unknown."""
    problem = "which weights?" if pretrained is None else f"unknown pretrained tag {pretrained!r};"
    listed = f"one of its tags ({', '.join(tags)})" if tags else "no tag (there are none)"
    return f"{name}: {problem} expected {listed}, a local checkpoint file, or 'random' for random weights"


def tags(name: str) -> list[str] | None:
    """open_clip's tags of weights of an architecture; None where its table of them does not read as expected."""
    name, loaded = name.replace("/", "-"), sys.modules.get("open_clip")
    if loaded is not None:
        return [tag for known, tag in loaded.list_pretrained() if known == name]
    table = _tags_by_name()
    return None if table is None else table.get(name, [])


@cache
def _installed() -> list[str]:
    return sorted(file.stem for file in _package().glob("model_configs/*.json"))


def _package() -> Path:
    """Folder of open_clip, found without importing it."""
    found = importlib.util.find_spec("open_clip")
    if found is None or not found.submodule_search_locations:
        raise ImportError("open_clip is not installed; pip install open-clip-torch")
    return Path(next(iter(found.submodule_search_locations)))


@cache
def _tags_by_name() -> dict[str, list[str]] | None:
    """The table of tags, read from the source of `open_clip.pretrained`: dictionaries of tags by name, in one of names.

    Models whose name ends with -quickgelu have the tags that say `quick_gelu=True`.
    """
    try:
        tree = ast.parse((_package() / "pretrained.py").read_text(encoding="utf-8"))
        groups: dict[str, dict[str, bool]] = {}
        found: dict[str, list[str]] = {}
        for node in tree.body:
            if not isinstance(node, ast.Assign) or not isinstance(node.targets[0], ast.Name):
                continue
            if node.targets[0].id != "_PRETRAINED":
                if isinstance(node.value, ast.Call) and getattr(node.value.func, "id", None) == "dict":
                    groups[node.targets[0].id] = _group(node.value)
                continue
            assert isinstance(node.value, ast.Dict)
            for key, value in zip(node.value.keys, node.value.values, strict=True):
                group = groups[value.id] if isinstance(value, ast.Name) else _group(value)
                assert isinstance(key, ast.Constant)
                name = str(key.value)
                found[name] = list(group)
                if quick := [tag for tag, is_quick in group.items() if is_quick]:
                    found[f"{name}-quickgelu"] = quick
    except (OSError, SyntaxError, AssertionError, AttributeError, KeyError):
        return None
    return found or None


def _group(call: ast.expr) -> dict[str, bool]:
    """Tags of a `dict(tag=_pcfg(...), ...)`, and whether each says `quick_gelu=True`."""
    assert isinstance(call, ast.Call) and not call.args
    return {
        tag.arg: any(word.arg == "quick_gelu" and getattr(word.value, "value", False) for word in tag.value.keywords)
        for tag in call.keywords
        if tag.arg is not None and isinstance(tag.value, ast.Call)
    }

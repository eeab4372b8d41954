"""What a resumed run must repeat: its settings, class names, templates and training list."""

import hashlib
import json
from pathlib import Path

from mote.config import Config
from mote.config.loading import Tree, read_tree, validate, with_todays_names
from mote.files.run_directory import CONFIG

FREE = {"run": None, "evaluation": None, "data": {"workers", "decode_timeout", "max_bad_fraction"}}  # None: all


def _fixed(tree: Tree) -> Tree:
    """The settings of a tree that must stay the same for a resumed run to continue the same training."""
    kept = {section: keys for section, keys in tree.items() if FREE.get(section, ()) is not None}
    data = kept.get("data")
    return kept | ({"data": {k: v for k, v in data.items() if k not in FREE["data"]}} if isinstance(data, dict) else {})


def _hash(tree: Tree) -> str:
    return hashlib.sha256(json.dumps(_fixed(tree), sort_keys=True).encode()).hexdigest()[:16]


def fingerprint_of_run(out: Path, config: Config, resume: bool) -> str:
    """What a checkpoint says of the settings that it was trained with: 16 hexadecimal digits of their SHA-256.

    Of a run that is resumed they are those of its directory, which may have been written by an older version.

    Raises:
        ValueError: the run directory has other settings than `config`.
    """
    if not resume or not (out / CONFIG).is_file():
        return _hash(config.model_dump(mode="json"))
    tree = read_tree(out / CONFIG)
    there, here = (_flat(_fixed(one.model_dump(mode="json"))) for one in (validate(with_todays_names(tree)), config))
    odd = [f"{key} was {there[key]!r}, now {value!r}" for key, value in here.items() if there[key] != value]
    if odd:
        raise ValueError(f"{out}: belongs to another configuration: {'; '.join(odd)}; undo it, or start anew")
    return _hash(tree)


def bound_settings(config: Config) -> Tree:
    """`section.key` -> value of every setting that a resumed run must repeat."""
    return _flat(_fixed(config.model_dump(mode="json")))


def _flat(tree: Tree) -> Tree:
    """`section.key` -> value."""
    return {
        f"{section}.{key}" if isinstance(keys, dict) else section: value
        for section, keys in tree.items()
        for key, value in (keys if isinstance(keys, dict) else {section: keys}).items()
    }

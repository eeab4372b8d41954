"""What `mote frontier` measures on: protocols with their lists, YAML files, or lists of the user's own."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mote.config import Config, merge, validate
from mote.evaluation.listings import check_evaluation
from mote.protocols.lists import ProtocolList, checked_lists
from mote.protocols.table import PROTOCOLS, Protocol, protocol_named


@dataclass(frozen=True)
class Target:
    """What a setting is measured on: a protocol with its lists, or a list of the user's own (`config`)."""

    name: str
    config: Config
    protocol: Protocol | None = None
    lists: tuple[ProtocolList, ...] = ()
    named: frozenset[str] = frozenset()  # settings of `config` that its own file gives


def find_target(text: str, config: Config, root: str | None = None) -> Target:
    """What `text` names, its lists found and checked.

    One of `PROTOCOL=LISTS` (ucf101-zs@1=lists/ucf101; k600-zs/validation=lists/k600 where a subset must be declared), a
    YAML file with an evaluation section, a manifest or a folder with a subfolder per class, and `MANIFEST,CLASSES`, the
    second a file of class names. For the last two the settings are those of `config`.

    Raises:
        ValueError: an unknown protocol, or a list that is missing, whose files are missing, or that does not fit
            (ManifestError).
    """
    name, equals, lists = text.partition("=")
    if equals and name.partition("@")[0].partition("/")[0] in PROTOCOLS:
        name, _, subset = name.partition("/")
        protocol = protocol_named(name).declared(subset or None)
        found = tuple(checked_lists(protocol, lists, root, config))
        return Target(protocol.name, config, protocol, found)
    if Path(text).suffix in (".yaml", ".yml"):
        tree = merge([Path(text)], [])
        fixed = config.model_dump(mode="json")
        update = {key: {**fixed[key], **value} if isinstance(value, Mapping) else value for key, value in tree.items()}
        own = validate({**fixed, **update})
        if own.evaluation.manifest is None:
            raise ValueError(f"{text}: evaluation.manifest is not set; a target needs a list of videos")
        check_evaluation(own.evaluation)
        named = {f"{section}.{key}" for section, keys in tree.items() if isinstance(keys, Mapping) for key in keys}
        return Target(Path(text).stem, own, named=frozenset(named))
    manifest, _, classes = text.partition(",")
    if not Path(manifest).exists():
        known = ", ".join(PROTOCOLS)
        raise ValueError(f"{text}: no such list; give PROTOCOL=LISTS ({known}), a YAML file, or MANIFEST[,CLASSES]")
    update = {"manifest": manifest, "classes": classes or None, "root": None, "split": None}
    evaluation = config.evaluation.model_copy(update=update)
    try:
        check_evaluation(evaluation)
    except ValueError as error:
        raise ValueError(f"{error} (for evaluation.root give a YAML file in the place of MANIFEST,CLASSES)") from None
    return Target(Path(manifest).stem, config.model_copy(update={"evaluation": evaluation}))

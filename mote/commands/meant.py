"""What was probably meant by a verb, an option, a setting or a file that is none."""

import difflib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

VERBS = {  # words of other programs -> ours
    "evaluate": "eval",
    "test": "eval",
    "validate": "eval",
    "val": "eval",
    "score": "eval",
    "benchmark": "eval",
    "infer": "predict",
    "inference": "predict",
    "classify": "predict",
    "run": "predict",
    "finetune": "train",
    "fine-tune": "train",
    "tune": "train",
    "extract": "encode",
    "features": "encode",
    "embed": "encode",
    "prune": "compact",
    "convert": "export",
    "upload": "push",
    "share": "push",
    "generate": "sample",
    "diff": "compare",
    "protocols": "eval --protocols",
    "explain": "config --explain",
    "settings": "config --explain",
    "info": "doctor",
    "env": "doctor",
    "help": "--help",
    "version": "--version",
}
COMMON = ("--help", "--traceback")  # options of every verb
SETTINGS = {  # words of other programs -> our settings
    "learning_rate": "optim.lr",
    "wd": "optim.weight_decay",
    "bs": "optim.batch_size",
    "num_epochs": "optim.epochs",
    "max_epochs": "optim.epochs",
    "grad_accum": "optim.accumulation",
    "gradient_accumulation_steps": "optim.accumulation",
    "amp": "optim.precision",
    "output": "run.out",
    "output_dir": "run.out",
    "work_dir": "run.out",
    "num_workers": "data.workers",
    "num_frames": "data.frames",
    "num_experts": "model.experts",
    "arch": "model.backbone",
}


@runtime_checkable
class Asked(Protocol):
    """What a parser says of itself, see `mote.commands.parsing.Parser`."""

    prog: str

    @property
    def verbs(self) -> Mapping[str, "Asked"]:
        """The verbs below it."""
        ...

    @property
    def options(self) -> Sequence[str]:
        """Its options."""
        ...

    @property
    def takes_settings(self) -> bool:
        """Whether it takes `a.b=c`."""
        ...


def verb_error(parser: Asked, word: str) -> str:
    """What to say of `word`, which is no verb of the parser."""
    program, verbs = parser.prog, parser.verbs
    inner = {name: verb for verb in verbs for name in verbs[verb].verbs if not verbs[verb].takes_settings}
    if word in VERBS and program == "mote":
        meant = [VERBS[word]]
    elif word in inner:
        meant = [f"{inner[word]} {word}"]
    else:
        near = difflib.get_close_matches(word, [*verbs, *inner], n=2, cutoff=0.6)
        meant = [f"{inner[name]} {name}" if name in inner else name for name in near]
        meant = meant or [VERBS[name] for name in difflib.get_close_matches(word, VERBS, n=1, cutoff=0.8)]
    if meant:
        return f"{word}: no verb of {program}; did you mean {_or([f'{program} {name}' for name in meant])}?"
    if program == "mote" and (word.endswith((".yaml", ".yml")) or "=" in word):
        return f"{word}: no verb of mote; settings follow a verb: mote train {word}"
    return f"{word}: no verb of {program}; verbs are {', '.join(verbs)}"


def option_error(parser: Asked, option: str, value: str) -> str:
    """What to say of `option`, which the parser does not know; `value` may have been meant for it."""
    name, program = option.lstrip("-"), parser.prog
    said = f"{option}: no option of {program}"
    if parser.verbs and (able := [verb for verb, inner in parser.verbs.items() if option in inner.options]):
        return f"{said} alone; write it behind its verb: {program} {able[0]} {option}"
    if parser.takes_settings and (keys := _settings(name)):
        return f"{said}; it is a setting: write {_or([_override(key, value) for key in keys])}"
    known = [item for item in parser.options if item.startswith("--")]
    if name in (item.lstrip("-") for item in known):
        return f"{said}; write --{name}"
    if close := difflib.get_close_matches(f"--{name}", known, n=2, cutoff=0.7):
        return f"{said}; did you mean {_or(close)}?"
    if parser.takes_settings:
        from mote.config.explain import close_keys

        if keys := [key for key in close_keys(name) if "." in key or key in ("seed", "task")]:
            return f"{said}; did you mean the setting {_or([_override(key, value) for key in keys])}?"
    elif keys := _settings(name):
        return f"{said}; {_or(keys)} is a setting, which {program} does not take"
    return f"{said}; options are {', '.join(item for item in known if item not in COMMON)}"


def choice_error(name: str, value: object, choices: Sequence[object]) -> str:
    """What to say of a value that is none of the choices."""
    close = difflib.get_close_matches(str(value), list(map(str, choices)), n=1)
    meant = f"; did you mean {close[0]}?" if close else ""
    return f"{name} {value}: expected {_or(list(map(str, choices)))}{meant}"


def settings_file_error(text: str) -> str | None:
    """What to say of an argument that stands where a file of settings or a run directory may; None: nothing."""
    from mote.datasets.lists.folders import VIDEO_SUFFIXES

    path = Path(text)
    if path.is_dir():
        if (path / "config.yaml").is_file():
            return None
        lists = f"write data.train={text} to train on the clips in it, evaluation.manifest={text} to score them"
        return f"{text}: is no run directory (it has no config.yaml); {lists}"
    if path.suffix.lower() in VIDEO_SUFFIXES:
        return f"{text}: is a video, not a file of settings; `mote predict MODEL {text}` names it"
    if path.is_file():
        if path.suffix.lower() in (".csv", ".txt") and not _is_mapping(path):
            lists = f"write data.train={text} to train on it, evaluation.manifest={text} to score it"
            return f"{text}: is a list, not a file of settings; {lists}"
        return None
    if path.exists():
        return None
    from mote.config.explain import named

    if re.fullmatch(r"[a-z_]+(\.[a-z_]+)?", text):
        try:
            keys = [setting.key for setting in named(text)]
        except ValueError:
            keys = []
        if text in keys or (keys and "." not in text):
            return f"{text}: there is no such file; a setting is written with its value: {_override(keys[0], '')}"
    folders = [path.parent] if len(path.parts) > 1 else [Path(), Path("configs")]
    found = sorted(file for folder in folders for file in folder.glob("*.y*ml"))
    names = {other.name: other for other in found} | {other.stem: other for other in found}
    if close := difflib.get_close_matches(path.name, names, n=1, cutoff=0.75):
        return f"{text}: there is no such file; did you mean {names[close[0]]}?"
    return f"{text}: there is no such file or run directory; settings are written as optim.lr=1e-4"


def _is_mapping(path: Path) -> bool:
    """Whether a file holds settings, whatever its name."""
    from mote.config import ConfigError
    from mote.config.loading import read_tree

    try:
        return bool(read_tree(path))
    except ConfigError:
        return False


def _settings(name: str) -> list[str]:
    """Keys of the settings that an option of this name would be for."""
    from mote.config.explain import settings, with_last_name

    plain = name.replace("-", "_")
    if plain in (setting.key for setting in settings()):
        return [plain]
    return [setting.key for setting in with_last_name(plain)] or ([SETTINGS[plain]] if plain in SETTINGS else [])


def _override(key: str, value: str) -> str:
    """`key=value` as it is to be written; a value that was not given is a word in capitals, or true for a switch."""
    from mote.config.explain import settings

    kinds = {setting.key: setting.type for setting in settings()}
    if kinds[key].startswith("true or false"):
        return f"{key}={value if value in ('true', 'false') else 'true'}"
    return f"{key}={value or 'VALUE'}"


def _or(words: Sequence[str]) -> str:
    return " or ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)

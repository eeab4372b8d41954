"""Every setting in words: its type, default and range from the tree, its meaning from the comment in the source."""

import ast
import difflib
import inspect
import io
import re
import textwrap
import tokenize
import types
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from mote.config.kinds import Different, FileName, Filled, Place, Section, Text
from mote.config.tree import Config
from mote.config.yaml_text import to_yaml


class Setting(NamedTuple):
    """One setting, all of it in words.

    key: as in an override, `optim.lr`. type: such as `whole number or null`. default: as an override writes it. range:
    the values that are taken. meaning: what it does, its unit, and what single values mean.
    """

    key: str
    type: str
    default: str
    range: str
    meaning: str


class Words(NamedTuple):
    """A type and the values it takes."""

    type: str
    range: str


TEXTS = {  # kind of text -> words
    FileName: Words("file name", "no slashes, no leading dot, not empty"),
    Place: Words("path", "not empty"),
    Text: Words("text", "not empty"),
}
LISTS = {"at least one": Filled, "none twice": Different}
BOUNDS = ("ge", "gt", "le", "lt")


@cache
def settings() -> tuple[Setting, ...]:
    """Every setting, in the order of the tree."""
    found = list(_of_section("", Config))
    for name, section in _inner():
        found += _of_section(f"{name}.", section)
    return tuple(found)


def sections() -> dict[str, str]:
    """Section -> what it is about, in the order of the tree."""
    return {name: inspect.getdoc(section) or "" for name, section in _inner()}


def named(name: str) -> list[Setting]:
    """The settings that `name` means: one by its key or its last name, or all of a section.

    Raises:
        ValueError: there is none; the line says which come close.
    """
    name = name.partition("=")[0].strip().rstrip(".")
    if found := [setting for setting in settings() if setting.key == name or setting.key.startswith(f"{name}.")]:
        return found
    if found := with_last_name(name):
        return found
    close = close_keys(name)
    known = f"did you mean {' or '.join(close)}?" if close else f"sections: {', '.join(sections())}"
    raise ValueError(f"{name}: no section and no setting has this name; {known}")


def with_last_name(name: str) -> list[Setting]:
    """The settings whose key ends in `name`, such as `lr`; hyphens may stand for underscores."""
    return [setting for setting in settings() if setting.key.rpartition(".")[2] == name.replace("-", "_")]


def close_keys(name: str) -> list[str]:
    """Keys and sections that are written much like `name`, the closest first."""
    keys = [setting.key for setting in settings()]
    last = {key.rpartition(".")[2] for key in keys}
    whole = difflib.get_close_matches(name, [*keys, *sections()], n=2, cutoff=0.75)
    parts = difflib.get_close_matches(name.rpartition(".")[2].replace("-", "_"), sorted(last), n=1, cutoff=0.75)
    ends = [setting.key for part in parts for setting in with_last_name(part)]
    return list(dict.fromkeys([*whole, *ends]))[:3]


def in_words(names: Sequence[str], width: int = 100) -> str:
    """The settings that `names` mean (all where there are none), as text of at most `width` columns.

    Raises:
        ValueError: a name that is none, see `named`.
    """
    chosen = dict.fromkeys(setting for name in names for setting in named(name)) or dict.fromkeys(settings())
    lines, about, above = [], sections(), ""
    for setting in chosen:
        section = setting.key.rpartition(".")[0]
        if section != above and section:
            lines += [*textwrap.wrap(f"{section}: {about[section]}", width), ""]
        above = section
        facts = dict.fromkeys([setting.type, setting.range, f"default {setting.default}"])
        lines += textwrap.wrap(f"{setting.key}: {'; '.join(facts)}", width, subsequent_indent="    ")
        lines += [*textwrap.wrap(setting.meaning, width, initial_indent="    ", subsequent_indent="    "), ""]
    return "\n".join(lines).rstrip()


def _inner() -> list[tuple[str, type[Section]]]:
    fields = {name: field.annotation for name, field in Config.model_fields.items()}
    return [(name, kind) for name, kind in fields.items() if isinstance(kind, type) and issubclass(kind, Section)]


def _of_section(prefix: str, section: type[Section]) -> Iterable[Setting]:
    meanings, inner = _meanings(section), dict(_inner()) if section is Config else {}
    for name, field in section.model_fields.items():
        if name not in inner:
            kind, values = _kind(field.annotation, field.metadata)
            yield Setting(f"{prefix}{name}", kind, _default(field), values, meanings[name])


def _default(field: FieldInfo) -> str:
    """The default as an override writes it."""
    value = list(field.default) if isinstance(field.default, tuple) else field.default
    return _plain(to_yaml(value, one_line=True)) if isinstance(value, float) else to_yaml(value, one_line=True)


def _kind(annotation: Any, limits: Sequence[object] = ()) -> Words:
    """A type in words, and the values it takes; `limits` are those that stand around it."""
    if get_origin(annotation) is Annotated:
        inner, *more = get_args(annotation)
        return _kind(inner, [*(item for info in more for item in getattr(info, "metadata", [info])), *limits])
    origin, inside = get_origin(annotation), get_args(annotation)
    if origin in (Union, types.UnionType):
        kind, values = _kind(next(item for item in inside if item is not type(None)), limits)
        return Words(f"{kind} or null", values)
    if origin is Literal:
        return Words("choice" if isinstance(inside[0], str) else "whole number", ", ".join(map(str, inside)))
    if origin is tuple:
        kind, values = _kind(inside[0])
        number = "list of" if inside[-1] is Ellipsis else f"list of {len(inside)}"
        more = [what for what in ("at least one", "none twice") if LISTS[what] in limits]
        return Words(f"{number} {kind}s", "; ".join([values, *more]))
    if origin is dict:
        (key, _), (kind, values) = map(_kind, inside)
        return Words(f"mapping of {key} to {kind}", values)
    if annotation is bool:
        return Words("true or false", "true or false")
    if annotation is str:
        return _text_kind(limits)
    assert annotation in (int, float), annotation
    return Words("whole number" if annotation is int else "number", _range(limits))


def _text_kind(limits: Sequence[object]) -> Words:
    """A text, a path or the name of a file."""
    for kind, words in TEXTS.items():
        if all(check in limits for check in get_args(kind)[1:]):
            return words
    raise AssertionError(limits)


def _range(limits: Sequence[object]) -> str:
    """`0 to 1`, `above 0 to 1`, `0 to below 1`, `from 0.1 on`."""
    bounds = {name: [bound for limit in limits if (bound := getattr(limit, name, None)) is not None] for name in BOUNDS}
    least, above = max(bounds["ge"], default=None), max(bounds["gt"], default=None)
    most, below = min(bounds["le"], default=None), min(bounds["lt"], default=None)
    infinite = any(getattr(limit, "allow_inf_nan", False) for limit in limits)
    lower = f"above {_number(above)}" if above is not None else None if least is None else _number(least)
    upper = f"below {_number(below)}" if below is not None else None if most is None else _number(most)
    if upper is None:
        number = "any number" if lower is None else f"from {lower} on"
        return f"{number}, also .inf" if infinite else number
    return f"up to {upper}" if lower is None else f"{lower} to {upper}"


def _number(value: Any) -> str:
    if isinstance(value, int) and value >= 10**7:
        return "2^63" if value == 2**63 else f"10^{len(str(value)) - 1}"
    return str(value) if isinstance(value, int) else _plain(f"{value:g}")


def _plain(number: str) -> str:
    """`1e-05` and `5.0e+03` as people write them."""
    return re.sub(r"(\.0)?e([-+])0?(?=\d)", lambda match: f"e{match[2]}".rstrip("+"), number)


def _meanings(section: type[Section]) -> dict[str, str]:
    """Field -> the comment above it or at the end of its first line, then those of its single values."""
    source = textwrap.dedent(inspect.getsource(section))
    comments = {
        token.start[0]: (token.string.lstrip("# "), not token.line[: token.start[1]].strip())
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT
    }  # line -> text, whether it has the line to itself
    lines, found = source.splitlines(), {}
    definition = ast.parse(source).body[0]
    assert isinstance(definition, ast.ClassDef)
    for node in definition.body:
        if not isinstance(node, ast.AnnAssign) or not isinstance(node.target, ast.Name):
            continue
        first, words = node.lineno, []
        while comments.get(first - 1, ("", False))[1]:
            first -= 1
        for line in range(first, (node.end_lineno or node.lineno) + 1):
            if line in comments:
                value = re.match(r'\s*"(.+?)",\s*#', lines[line - 1])
                words.append(f"{value[1]} = {comments[line][0]};" if value else comments[line][0])
        found[node.target.id] = " ".join(words).rstrip(";.")
    return found

"""YAML 1.2 as settings need it, to and from plain values: numbers, texts, true, false, null, lists, mappings.

A plain word is what the core schema of YAML 1.2 says (https://yaml.org/spec/1.2.2, section 10.3): `1e-4` and `.inf` are
floats, `010` is ten, `0o10` and `0x8` are eight; `yes`, `no`, `on`, `off`, `1:30`, `1_000` and dates are texts. (PyYAML
follows YAML 1.1, where most of these are something else.) Refused, because a setting would not be what it looks like: a
key that stands twice, tags, anchors, aliases, merge keys and, in an override, comments.
"""

import math
import re

import yaml

INTEGER = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
WORDS = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
LONGEST = 400  # digits of a number
DEEPEST = 20  # levels of lists and mappings within one another


class YamlError(ValueError):
    """A text that is no YAML, or YAML that settings do not use; one line, with the key and the place."""


class _Composer(yaml.BaseLoader):
    """BaseLoader (every scalar is a text) that refuses tags, anchors, aliases and what is nested too deeply."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.keys: list[str] = []

    def compose_node(self, parent: yaml.Node | None, index: object) -> yaml.Node | None:
        event = self.peek_event()
        inside = index is not None
        if inside:
            self.keys.append(index.value if isinstance(index, yaml.ScalarNode) else str(index))
        odd = "an alias" if isinstance(event, yaml.AliasEvent) else None
        odd = "an anchor" if odd is None and getattr(event, "anchor", None) is not None else odd
        odd = "a tag" if odd is None and getattr(event, "tag", None) is not None else odd
        if odd is not None:
            raise _error(self.keys, f"{odd} is not read here; write the value itself, a text in quotes", event)
        if len(self.keys) > DEEPEST:
            raise _error(self.keys[:3], f"more than {DEEPEST} levels of lists and mappings", event)
        node = super().compose_node(parent, index)  # type: ignore[arg-type]
        if inside:
            self.keys.pop()
        return node


def parse_yaml(text: str, *, override: bool = False) -> object:
    """One YAML document as plain values; None for an empty one.

    Args:
        text: the document.
        override: it is the value of an override, where a comment would be part of the value that is lost.

    Raises:
        YamlError: see the module.
    """
    try:
        loader = _Composer(text)
        node = loader.get_single_node()
    except yaml.YAMLError as error:
        mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None) or str(error)
        where = f" (line {mark.line + 1}, column {mark.column + 1})" if mark is not None else ""
        raise YamlError(f"not valid YAML: {' '.join(problem.split())}{where}") from None
    if node is None:
        if override and text.strip():
            raise YamlError("a comment is no value; put the text in quotes")
        return None
    if override and isinstance(node, yaml.ScalarNode) and text[node.end_mark.index :].strip():
        raise YamlError(f"what follows {node.value!r} would be a comment; put the whole text in quotes")
    return _value(node, [])


def to_yaml(tree: object, *, one_line: bool = False) -> str:
    """Plain values as YAML that `parse_yaml` reads back; `one_line` as an override has it."""
    if not one_line:
        return yaml.dump(tree, Dumper=_Dumper, sort_keys=False, allow_unicode=True)
    line = yaml.dump(tree, Dumper=_Dumper, default_flow_style=True, width=math.inf, allow_unicode=True)
    return line.removesuffix("...\n").strip()


def _value(node: yaml.Node, keys: list[str]) -> object:
    if isinstance(node, yaml.SequenceNode):
        return [_value(item, [*keys, str(number)]) for number, item in enumerate(node.value)]
    if not isinstance(node, yaml.MappingNode):
        return _scalar(node, keys)
    found: dict[str, object] = {}
    for key, value in node.value:
        if not isinstance(key, yaml.ScalarNode):
            raise _error(keys, "a key must be a word", key)
        name = _text(key.value, keys, key)
        if name in found:
            raise _error([*keys, name], "stands twice; keep one of them", key)
        if name == "<<" and key.style is None:
            raise _error([*keys, name], "merge keys are not read here; write the settings themselves", key)
        found[name] = _value(value, [*keys, name])
    return found


def _scalar(node: yaml.Node, keys: list[str]) -> object:
    text = node.value
    if node.style is not None:  # type: ignore[attr-defined]  # quoted, or a block
        return _text(text, keys, node)
    if text in WORDS:
        return WORDS[text]
    is_integer = INTEGER.fullmatch(text)
    if (is_integer or FLOAT.fullmatch(text)) and len(text) > LONGEST:
        raise _error(keys, f"a number of more than {LONGEST} digits", node)
    if is_integer:
        return int(text, {"0o": 8, "0x": 16}.get(text[:2], 10))
    if FLOAT.fullmatch(text):
        return float(text.replace(".", "") if text[-1].isalpha() else text)
    return _text(text, keys, node)


def _text(text: str, keys: list[str], node: yaml.Node) -> str:
    r"""The text, pairs of surrogates ("\ud83d\ude00", as JSON writes them) made one character."""
    try:
        return text.encode("utf-16", "surrogatepass").decode("utf-16")
    except UnicodeDecodeError:
        raise _error(keys, f"{text!r} is no text: half a character", node) from None


def _error(keys: list[str], message: str, at: yaml.Node | yaml.Event) -> YamlError:
    where = ".".join(repr(key)[1:-1] for key in keys)
    return YamlError(f"{where}{': ' if where else ''}{message} (line {at.start_mark.line + 1})")


class _Dumper(yaml.SafeDumper):
    """SafeDumper that quotes every text which YAML 1.2 would read as something else."""

    def ignore_aliases(self, data: object) -> bool:  # equal values are written out
        return True


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
    """In double quotes where it has a line break that is none of ASCII, which would be read back as a blank."""
    style = '"' if any(mark in text for mark in "\x85\u2028\u2029") else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _represent_text)
for _tag, _pattern in (("int", INTEGER), ("float", FLOAT)):
    _Dumper.add_implicit_resolver(
        f"tag:yaml.org,2002:{_tag}", re.compile(rf"(?:{_pattern.pattern})\Z"), list("-+.0123456789")
    )

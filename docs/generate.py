"""Pages of the documentation that are made from the package: settings, commands, Python interface, results, protocols.

Written when the documentation is built (`conf.py`), so that they cannot differ from the package. Nothing here imports
Sphinx, and the Python interface is read from the source, so torch is not imported for it.
"""

import argparse
import ast
import re
from collections.abc import Iterator
from pathlib import Path

import mote

ROOT = Path(__file__).resolve().parents[1]
PUBLIC = {  # what users of the library import, by topic
    "Models": ("mote.load", *(f"mote.{name}" for name in mote.PLACES), "mote.models.lora.load_adapters"),
    "Videos": (
        "mote.datasets.decoding.decode.read_frames",
        "mote.datasets.decoding.encode.write_video",
        "mote.datasets.synthetic.clips.render_clip",
        "mote.datasets.synthetic.clips.make_world",
        "mote.datasets.synthetic.faces.make_faces",
    ),
    "Configuration": ("mote.config.loading.load", "mote.config.loading.dump"),
    "In a Ray program": ("mote.prediction.ray_engine.Decode", "mote.prediction.ray_engine.Name"),
}
NAMES_FILES = "mote.inference.pipeline.NamesFiles"  # what models for videos and for images have in common
METHODS = {  # of these classes only those that users call
    "VideoClassifier": (
        *("classify_video", "predict", "scores", "text_features", "encode", "embed", "scorer"),
        *("in_precision", "with_templates", "interpolated", "adjusted", "hashes"),
    ),
    "ImageClassifier": ("predict", "scores", "logits", "hashes"),
}
SECTIONS = {"Args": "Arguments", "Returns": "Returns", "Raises": "Raises", "Yields": "Yields"}


def write(folder: Path) -> None:
    """Write every generated page below `folder`; a page that has not changed is left alone."""
    folder.mkdir(exist_ok=True)
    pages = {"settings": settings, "commands": commands, "python": python, "results": results}
    for name, page in {**pages, "protocols_table": protocols_table}.items():
        file, text = folder / f"{name}.md", page()
        if not file.is_file() or file.read_text(encoding="utf-8") != text:
            file.write_text(text, encoding="utf-8")


def settings() -> str:
    """Every setting of the configuration tree: key, type, range, default, meaning."""
    from mote.config.explain import sections, settings

    intro = (
        "# Settings\n\nWrite a setting in a YAML file, or as `section.key=value` on the command line. `mote config` "
        "prints all of them as they are resolved, `mote config --explain optim.lr` explains one. A value is checked "
        "before anything is loaded; a setting that would have no effect is named in a warning or refused.\n"
    )
    about, parts = sections(), [intro]
    for section in ("", *about):
        own = [setting for setting in settings() if setting.key.rpartition(".")[0] == section]
        parts.append(f"\n## {section or 'General'}\n\n{_cell(about.get(section, 'Settings without a section.'))}\n")
        parts.append(_table(("setting", "type", "values", "default", "meaning")))
        for setting in own:
            words = (f"`{setting.key}`", setting.type, setting.range, f"`{setting.default}`", setting.meaning)
            parts.append(_row(words))
    return "\n".join(parts) + "\n"


def commands() -> str:
    """The help of every verb, as the parsers print it."""
    from mote.cli import _parser

    intro = (
        "# Commands\n\nWhat `mote VERB --help` prints. Exit codes: 0 done; 1 done, but some inputs could not be used; "
        "2 a mistake in what was asked for, told in one line. `mote --traceback VERB ...` shows where an error arose.\n"
    )
    return intro + "\n".join(_help(_parser(), 2))


def _help(parser: argparse.ArgumentParser, level: int) -> Iterator[str]:
    parser.formatter_class = _wide(parser.formatter_class)
    yield f"\n{'#' * min(level, 4)} {parser.prog}\n\n```text\n{parser.format_help().rstrip()}\n```\n"
    for _, verb in subparsers(parser):
        yield from _help(verb, level + 1)


def _wide(formatter: type) -> type:
    """The formatter, at 100 columns whatever the terminal."""
    return type("Wide", (formatter,), {"__init__": lambda self, prog, **o: formatter.__init__(self, prog, width=100)})


def subparsers(parser: argparse.ArgumentParser) -> list[tuple[str, argparse.ArgumentParser]]:
    """(name, parser) of each verb below."""
    groups = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    return [item for group in groups for item in group.choices.items()]


def protocols_table() -> str:
    """One row for every protocol that is shipped."""
    from mote.protocols.table import PROTOCOLS

    heads = ("protocol", "data", "lists", "frames", "views", "fusion of views", "modulation", "alpha")
    heads = (*heads, "classes", "videos")
    rows = [_table(heads)]
    for item in PROTOCOLS.values():
        numbers = item.variants or (("", item.videos),)
        videos = "; ".join(f"{name} {', '.join(f'{n:,}' for n in found)}".strip() for name, found in numbers)
        cells = (
            f"`{item.identifier}`",
            item.dataset,
            ", ".join(f"`{name}`" for name in item.lists),
            str(item.frames or "the model's"),
            f"{item.clips} x {item.crops}",
            f"`{item.fusion}`",
            "on" if item.modulation else "off",
            f"{item.alpha:g}",
            {"all": "all", "halves": "random halves", "folds": "all, a model for each fold"}[item.subsets],
            videos,
        )
        rows.append(_row(cells))
    return "\n".join(rows) + "\n"


def results() -> str:
    """configs/README.md, with its links as seen from the generated page."""
    text = (ROOT / "configs" / "README.md").read_text(encoding="utf-8")
    return re.sub(r"\]\((?!https?:|#)([^)]+)\)", r"](../../configs/\1)", text)


def python() -> str:
    """The public names with their signatures and docstrings."""
    parts = ["# Python interface\n\nNames that programs may rely on. Everything else may move between versions.\n"]
    for topic, names in PUBLIC.items():
        parts.append(f"\n## {topic}\n")
        parts += [_documented(name) for name in names]
    return "\n".join(parts) + "\n"


def _documented(name: str) -> str:
    node = found(name)
    if isinstance(node, ast.FunctionDef):
        return _directive("function", name, node)
    methods = {item.name: item for base in (found(NAMES_FILES), node) for item in base.body if _is_method(item)}
    shown = METHODS.get(node.name, [item.name for item in node.body if _is_method(item)])
    return _directive("class", name, node, "\n".join(_directive("method", item, methods[item]) for item in shown))


def _is_method(node: ast.stmt) -> bool:
    return isinstance(node, ast.FunctionDef) and not node.name.startswith("_") and bool(ast.get_docstring(node))


def found(name: str) -> ast.FunctionDef | ast.ClassDef:
    """The definition of `mote.a.b.name` in the source; raises KeyError where there is none."""
    module, _, last = name.rpartition(".")
    if module == "mote" and last in mote.PLACES:
        module = f"mote.inference.{mote.PLACES[last]}"
    file = ROOT.joinpath(*module.split("."))
    file = file / "__init__.py" if file.is_dir() else file.with_suffix(".py")
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == last:
            return node
    raise KeyError(name)


def _directive(kind: str, name: str, node: ast.FunctionDef | ast.ClassDef, inner: str = "") -> str:
    """A MyST directive of Sphinx's Python domain."""
    fence, signature = "`" * (4 if inner else 3), name
    if isinstance(node, ast.FunctionDef):
        is_property = any(isinstance(item, ast.Name) and item.id == "property" for item in node.decorator_list)
        kind = "property" if is_property else kind
        if not is_property:
            arguments = re.sub(r"^self(, )?", "", ast.unparse(node.args))
            signature += f"({_plain_types(arguments)})"
            signature += f" -> {_plain_types(ast.unparse(node.returns))}" if node.returns else ""
    return f"{fence}{{py:{kind}}} {signature}\n\n{_docstring(node)}\n{inner}\n{fence}\n"


def _plain_types(text: str) -> str:
    """Annotations as Sphinx can parse them: `Float[Tensor, 'B D']` becomes `Tensor`."""
    text = re.sub(r"\w+\[(Tensor|np\.ndarray), '[^']*'\]", r"\1", text)
    return re.sub(r"'([A-Z]\w*|[^']* \| [^']*)'", r"\1", text).replace("'", '"')


def _docstring(node: ast.FunctionDef | ast.ClassDef) -> str:
    """The docstring with its sections (Args, Returns, Raises) as lists."""
    lines, in_section = [], False
    for line in (ast.get_docstring(node) or "").splitlines():
        title = line.strip().rstrip(":")
        if line.endswith(":") and title in SECTIONS:
            lines += ["", f"**{SECTIONS[title]}**", ""]
            in_section = True
        elif in_section and (item := re.match(r"^    (\S[^:]*): (.*)", line)):
            lines.append(f"- `{item[1]}`: {item[2]}")
        else:
            lines.append(line.strip() if not in_section else f"  {line.strip()}".rstrip())
    return "\n".join(lines)


def _table(heads: tuple[str, ...]) -> str:
    return f"{_row(heads)}\n|{'---|' * len(heads)}"


def _row(cells: tuple[str, ...]) -> str:
    return f"| {' | '.join(_cell(cell) for cell in cells)} |"


def _cell(text: str) -> str:
    """Text that neither ends a cell nor begins an element of HTML, emphasis or mathematics outside of code spans."""
    parts = re.split(r"(`[^`]*`)", text.replace("\n", " "))
    return "".join(
        part.replace("|", "\\|") if i % 2 else re.sub(r"([|<*_\[\]$])", r"\\\1", part) for i, part in enumerate(parts)
    )

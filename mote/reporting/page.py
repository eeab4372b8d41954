"""The report page: one self-contained HTML file, and the same tables as text for the terminal and for Markdown.

Every page of the package has this head, style sheet and way of tables: see `Head`, `Section`, `write_page`. It needs no
network: style, script and figures lie in the file. SVG files are drawn in the colours of the page, light or dark. The
script only sorts tables; without it everything is there. A table is a sequence of rows, each a mapping from column name
to cell; the first row names the columns.
"""

import base64
import json
import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from unicodedata import east_asian_width

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from mote.files.writing import write_atomic
from mote.reporting.inline_svg import inline_svg

TEMPLATE, STYLE, SCRIPT = (Path(__file__).with_name(name) for name in ("page.html.j2", "page.css", "page.js"))
MEDIA_TYPES = {".svg": "image/svg+xml", ".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg"}
NUMBER = re.compile(r"[-+\N{MINUS SIGN}]?\d")  # a cell that begins like this is aligned to the right
WITH_INTERVAL = re.compile(r"([-+\N{MINUS SIGN}]?\d\S*) (\[[^\[\]]*\]|± \S+)")  # a number, and how sure it is
LONGEST_NUMBER = 24  # letters of a cell that may not be broken
SORTED_FROM = 3  # rows; fewer need no sorting
Table = Sequence[Mapping[str, object]]


@dataclass(frozen=True)
class Head:
    """What stands above the sections of a page; what is empty is left out.

    conclusion: what the page says, in a sentence. cards: (value, what it is) of the key numbers. model, data, date,
    command: where the numbers come from.
    """

    conclusion: str = ""
    cards: Sequence[tuple[str, str]] = ()
    model: str = ""
    data: str = ""
    date: str = ""
    command: str = ""

    @property
    def about(self) -> list[tuple[str, str]]:
        """(name, text) of what is known."""
        names = ("model", "data", "date", "command")
        return [(name, text) for name in names if (text := getattr(self, name))]


@dataclass(frozen=True)
class Section:
    """One part of the page; what is empty is left out.

    figures: (file of a figure or image, caption, which is also its description for those who cannot see it). best: row
    of `table` that is set off. folded: a table that is shown on demand. markup: HTML, as a `Markup` that has escaped
    its own parts; a plain string is escaped. commands: shown one per line, ready to copy. facts: shown as indented
    JSON, on demand. fold: words under which all but `text` is folded.
    """

    heading: str
    text: str = ""
    table: Table = ()
    best: int | None = None
    figures: Sequence[tuple[Path, str]] = ()
    folded: Table = ()
    markup: str = ""
    commands: Sequence[str] = ()
    facts: Mapping[str, object] = field(default_factory=dict)
    fold: str = ""


def write_page(path: Path | str, title: str, sections: Sequence[Section], head: Head | None = None) -> Path:
    """Write the page to `path` and return it; raises FileNotFoundError for a missing figure."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    figures: list[str] = []  # ids in the figures of one page must differ

    def figure(file: Path | str, description: str) -> Markup:
        figures.append(str(file))
        return _figure(Path(file), description, f"f{len(figures)}")

    environment.globals.update(grid=_grid, is_number=_is_short_number, as_json=_as_json, figure=figure)
    environment.globals["with_interval"] = _with_interval
    scripted = any(
        'class="segments sorts' in section.markup or max(len(section.table), len(section.folded)) >= SORTED_FROM
        for section in sections
    )
    html = environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        title=title,
        sections=sections,
        head=head or Head(),
        style=Markup(environment.from_string(STYLE.read_text(encoding="utf-8")).render()),
        script=Markup(SCRIPT.read_text(encoding="utf-8").strip()) if scripted else None,
    )
    # Names of files that are not UTF-8 arrive with lone surrogates, which no HTML file can hold.
    write_atomic(path, html.encode("utf-8", "replace"))
    return Path(path)


def command_line() -> str:
    """The command that is running, as it would be typed again; "" where it is not `mote`."""
    program = Path(sys.argv[0]) if sys.argv else Path()
    is_mote = program.stem == "mote" or (program.name == "__main__.py" and program.parent.name == "mote")
    return shlex.join(["mote", *sys.argv[1:]]) if is_mote else ""


def day(date: object) -> str:
    """The day of a date in ISO format, such as "30 November 2026"; "" where there is none."""
    found = re.match(r"(\d{4})-(\d\d)-(\d\d)", str(date or ""))
    if found is None:
        return ""
    year, month, number = map(int, found.groups())
    return f"{number} {MONTHS[month - 1]} {year}" if 1 <= month <= 12 else ""


MONTHS = ("January", "February", "March", "April", "May", "June", "July")
MONTHS += ("August", "September", "October", "November", "December")


def _figure(file: Path, description: str, prefix: str) -> Markup:
    """An SVG file as part of the page, any other image as a data URI."""
    if file.suffix.lower() == ".svg":
        return inline_svg(file.read_text(encoding="utf-8"), description, prefix)
    return Markup('<img src="{}" alt="{}">').format(data_uri(file), description)


def short(name: str, width: int) -> str:
    """A name in at most `width` columns, wide East Asian characters counted as two; its middle is left out.

    The end is kept, for numbered names differ there. Blanks are single.
    """
    letters = " ".join(name.split())
    if _width(letters) <= width:
        return letters
    end = _fitting(letters[::-1], width // 3)[::-1]
    return f"{_fitting(letters, width - 1 - _width(end)).rstrip()}\N{HORIZONTAL ELLIPSIS}{end.lstrip()}"


def _fitting(text: str, width: int) -> str:
    """As many of the first letters as `width` columns hold."""
    used = 0
    for place, letter in enumerate(text):
        used += _width(letter)
        if used > width:
            return text[:place]
    return text


def data_uri(image: Path | str) -> str:
    """Image file as a data URI; raises ValueError for an ending that is not SVG, PNG or JPEG."""
    image = Path(image)
    media_type = MEDIA_TYPES.get(image.suffix.lower())
    if media_type is None:
        raise ValueError(f"{image}: expected an image file ending in one of {', '.join(MEDIA_TYPES)}")
    return f"data:{media_type};base64,{base64.b64encode(image.read_bytes()).decode('ascii')}"


def percent(fraction: float, interval: Sequence[float] | None = None) -> str:
    """Fraction in percent with one decimal, and its interval behind it: "61.4 [58.1, 64.6]"."""
    text = f"{100 * fraction:.1f}"
    return text if interval is None else f"{text} [{100 * interval[0]:.1f}, {100 * interval[1]:.1f}]"


def chance(p: float) -> str:
    """A p-value in words: "p = 0.03", "p < 0.0001"."""
    return f"p = {p:.2g}" if p >= 1e-4 else "p < 0.0001"


def tradeoff_table(rows: Sequence[Mapping]) -> list[dict[str, object]]:
    """Rows of `mote.metrics.zero_shot.trade_off` as cells, in percent.

    Columns: method, closed-set, one per zero-shot set where there are several, zero-shot and the harmonic mean.
    """
    table = []
    for row in rows:
        sets = row.get("zero_shot_sets", {})
        each = {f"zero-shot {name}": percent(value) for name, value in sets.items()} if len(sets) > 1 else {}
        cells = {
            "method": row["method"],
            "closed-set": percent(row["closed_set"], row.get("closed_set_interval")),
            **each,
        }
        cells["zero-shot"] = percent(row["zero_shot"], row.get("zero_shot_interval"))
        cells["harmonic mean"] = percent(row["harmonic_mean"], row.get("harmonic_mean_interval"))
        table.append(cells)
    return table


def text_table(rows: Table) -> str:
    """Rows with aligned columns for a terminal: text to the left, numbers to the right."""
    grid = _grid(rows)
    widths = [max(_width(line[i]) for line in grid) for i in range(len(grid[0]))]
    right = [all(_is_number(line[i]) for line in grid[1:]) for i in range(len(widths))]
    grid.insert(1, ["-" * width for width in widths])
    return "\n".join("  ".join(map(_pad, line, widths, right)).rstrip() for line in grid)


def markdown_table(rows: Table) -> str:
    """Rows as a Markdown table."""
    grid = [[cell.replace("|", "\\|").replace("\n", " ") for cell in line] for line in _grid(rows)]
    right = [all(_is_number(line[i]) for line in grid[1:]) for i in range(len(grid[0]))]
    grid.insert(1, ["--:" if numbers else "---" for numbers in right])
    return "\n".join(f"| {' | '.join(line)} |" for line in grid)


def _grid(rows: Table) -> list[list[str]]:
    """Header and cells as text; raises ValueError when the rows do not share their columns."""
    if not rows:
        raise ValueError("a table needs at least one row")
    columns = list(rows[0])
    for row in rows:
        if list(row) != columns:
            raise ValueError(f"row has columns {', '.join(row)}; expected {', '.join(columns)}, as in the first row")
    return [columns, *([_cell(row[column]) for column in columns] for row in rows)]


def _cell(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else "" if value is None else str(value)


def _with_interval(cell: str) -> tuple[str, str] | None:
    """A number and its interval, where a cell holds both."""
    found = WITH_INTERVAL.fullmatch(cell)
    return None if found is None else (found[1], found[2])


def _is_number(cell: str) -> bool:
    return not cell or NUMBER.match(cell) is not None


def _is_short_number(cell: str) -> bool:
    """Whether a cell of a page is set like a number: on one line, to the right."""
    return len(cell) <= LONGEST_NUMBER and _is_number(cell)


def _width(cell: str) -> int:
    """Columns a terminal uses for `cell`: two for wide East Asian characters."""
    return sum(1 + (east_asian_width(letter) in "WF") for letter in cell)


def _pad(cell: str, width: int, right: bool) -> str:
    space = " " * (width - _width(cell))
    return space + cell if right else cell + space


def _as_json(facts: Mapping[str, object]) -> str:
    return json.dumps(facts, indent=2, ensure_ascii=False, default=str)

"""The report page: one self-contained HTML file, and the same tables as text for the terminal and for Markdown.

The page needs no network and no JavaScript: its style is inline and its figures are data URIs. A table is a sequence
of rows, each a mapping from column name to cell; the first row names the columns.
"""

import base64
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from unicodedata import east_asian_width

from jinja2 import Environment, StrictUndefined

from mote.files.writing import write_atomic

TEMPLATE = Path(__file__).with_name("page.html.j2")
MEDIA_TYPES = {".svg": "image/svg+xml", ".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg"}
NUMBER = re.compile(r"[-+]?\d")  # a cell that begins like this is aligned to the right
Table = Sequence[Mapping[str, object]]


@dataclass(frozen=True)
class Section:
    """One part of the page; what is empty is left out.

    figures: (file of a figure or image, description for those who cannot see it); `wide` ones keep their size on
    narrow screens, where they scroll. folded: a long table, shown on demand. markup: HTML, as a `Markup` that has
    escaped its own parts; a plain string is escaped. commands: shown one per line, ready to copy. facts: shown as
    indented JSON, on demand.
    """

    heading: str
    text: str = ""
    table: Table = ()
    figures: Sequence[tuple[Path, str]] = ()
    wide: bool = False
    folded: Table = ()
    markup: str = ""
    commands: Sequence[str] = ()
    facts: Mapping[str, object] = field(default_factory=dict)


def write_page(path: Path | str, title: str, sections: Sequence[Section]) -> Path:
    """Write the page to `path` and return it; raises FileNotFoundError for a missing figure."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.globals.update(grid=_grid, is_number=_is_number, data_uri=data_uri, as_json=_as_json)
    html = environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(title=title, sections=sections)
    # Names of files that are not UTF-8 arrive with lone surrogates, which no HTML file can hold.
    write_atomic(path, html.encode("utf-8", "replace"))
    return Path(path)


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


def _is_number(cell: str) -> bool:
    return not cell or NUMBER.match(cell) is not None


def _width(cell: str) -> int:
    """Columns a terminal uses for `cell`: two for wide East Asian characters."""
    return sum(1 + (east_asian_width(letter) in "WF") for letter in cell)


def _pad(cell: str, width: int, right: bool) -> str:
    space = " " * (width - _width(cell))
    return space + cell if right else cell + space


def _as_json(facts: Mapping[str, object]) -> str:
    return json.dumps(facts, indent=2, ensure_ascii=False, default=str)

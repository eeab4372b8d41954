"""The pages of the documentation as the tests see them: blocks, links, headings, and how a tutorial is carried out."""

import contextlib
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from command_line import mote

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
SITE = sorted(page for page in DOCS.rglob("*.md") if not {"_build", "generated"} & set(page.relative_to(DOCS).parts))
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "data" / "README.md", ROOT / "configs" / "README.md"]
PAGES += [ROOT / "tools" / "README.md", *SITE]
TUTORIALS = sorted((DOCS / "tutorials").glob("*.md"))
LEADING = {"srun", "time", "do", "nohup"}  # what may stand before a command


class Block(NamedTuple):
    """A fenced block. note: the comment (`<!-- ... -->`) in the line above, where there is one."""

    page: Path
    line: int
    language: str
    text: str
    note: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks(page: Path) -> Iterator[Block]:
    """Every fenced block of a page, those inside directives included."""
    fence, language, start, body, note, above = "", "", 0, [], "", ""
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
        opened = re.match(r"^\s*(`{3,})\s*(\S*)", line)
        if not fence and opened:
            fence, language, start, body, note = opened[1], opened[2], number, [], above
        elif fence and line.strip() == fence:
            yield Block(page, start, language, "\n".join(body), note)
            fence = ""
        elif fence:
            body.append(line)
        above = line.removeprefix("<!--").removesuffix("-->").strip() if line.startswith("<!--") else ""
    assert not fence, f"{page}: a block is not closed"


def commands(text: str) -> list[list[str]]:
    """The simple commands of a shell block as words, without comments, loops, redirections and variables."""
    found = []
    for line in re.sub(r"\\\n\s*", " ", text).splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars=";&|<>")
        lexer.whitespace_split, lexer.commenters = True, "#"
        words: list[str] = []
        for word in [*lexer, ";"]:
            if word and set(word) <= set(";&|"):
                if simple := _simple(words):
                    found.append(simple)
                words = []
            else:
                words.append(word)
    return found


def command(page: Path, start: str) -> list[str]:
    """The first command of a page, in a block or within a sentence, that begins with these words."""
    texts = [block.text for block in blocks(page) if block.language == "sh"]
    texts += re.findall(r"`(mote [^`\n]+)`", page.read_text(encoding="utf-8"))
    found = (words for text in texts for words in commands(text))
    return next(words for words in found if words[: len(start.split())] == start.split())


def _simple(words: list[str]) -> list[str]:
    while words and (words[0] in LEADING or words[:2] == ["uv", "run"] or re.match(r"^[A-Z_]+=", words[0])):
        words = words[2 if words[0] == "uv" else 1 :]
    if words[:2] == ["accelerate", "launch"] and "-m" in words:
        words = words[words.index("-m") + 1 :]
    if ">" in words:
        words = words[: words.index(">")]
    return words


def headings(page: Path) -> set[str]:
    """Anchors of the headings of a page, as GitHub and MyST make them."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    titles = re.findall(r"^#+ +(.+?) *$", text, flags=re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower().replace("`", "")).replace(" ", "-") for title in titles}


def links(page: Path) -> list[str]:
    """Targets of the links and pictures of a page, outside of code."""
    text = re.sub(r"^(`{3,})[^{].*?^\1$", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    text = re.sub(r"`[^`\n]+`", "", text)
    found = re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r'(?:src|srcset|href)="([^"]+)"', text)
    return found + re.findall(r"^```\{(?:include|figure|image)\} (\S+)", page.read_text(encoding="utf-8"), flags=re.M)


def carry_out(page: Path, folder: Path, monkeypatch) -> None:
    """Run the blocks of a page one after the other in `folder`: `mote` and Python in this process, the rest by bash."""
    monkeypatch.chdir(folder)
    Path("configs").symlink_to(ROOT / "configs")  # as in a clone
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=":")
    monkeypatch.setenv("PYTHONPATH", str(ROOT), prepend=":")
    names: dict[str, object] = {"__name__": "tutorial"}
    for block in blocks(page):
        if block.note.startswith("not run"):
            continue
        if block.language == "python":
            exec(compile(block.text, str(block), "exec"), names)
        elif block.language == "sh":
            for line in re.sub(r"\\\n\s*", " ", block.text).splitlines():
                _run(line, block)


def _run(line: str, block: Block) -> None:
    words = shlex.split(line, comments=True)
    if not words:
        return
    if words[0] == "mote" and not set(words) & {"|", "&&", ">", ";"}:
        with contextlib.suppress(KeyboardInterrupt):
            assert mote(*words[1:]) == 0, f"{block}: {line}"
        return
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=1800)
    assert done.returncode == 0, f"{block}: {line}\n{done.stderr[-2000:]}"

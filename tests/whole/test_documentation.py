"""README and documentation against the package: commands, settings, code, links, errors; tutorials are carried out."""

import ast
import json
import re
import subprocess
import sys
import time
import warnings
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import yaml
from command_line import mote
from documentation import DOCS, PAGES, ROOT, SITE, TUTORIALS, blocks, carry_out, command, commands, headings, links
from made_videos import write_ucf101

from mote.cli import _parser
from mote.config import ConfigError, load
from mote.datasets.decoding.encode import write_video
from mote.datasets.synthetic.clips import render_clip

sys.path.insert(0, str(DOCS))
import generate

BLOCKS = [block for page in PAGES for block in blocks(page)]
LANGUAGES = {"sh", "python", "text", "yaml", "bibtex", "{toctree}", "{include}", "{math}", "{figure}", "{note}"}
SHELL = {"pip", "uv", "cd", "for", "done", "wait", "python", "eval", "ruff", "pyright", "pytest", "sphinx-build", "cat"}
SHELL |= {"git", "ls", "source", "ffmpeg", "curl", "export", "tail", "du", "kill", "cp", "mkdir"}
GENERATED = {"settings", "commands", "python", "results", "protocols_table"}


@cache
def sources() -> str:
    """The text of the whole package; strings that go on in the next line are one."""
    texts = (file.read_text(encoding="utf-8") for file in sorted((ROOT / "mote").rglob("*.py")))
    return re.sub(r'"\n\s*f?"', "", "\n".join(texts))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_command_and_setting_is_one(page, capsys):
    for block in blocks(page):
        assert block.language in LANGUAGES, f"{block}: give the block a language, not {block.language!r}"
        if block.language == "sh":
            for words in commands(block.text):
                assert words[0] == "mote" or words[0] in SHELL, f"{block}: {words[0]} is no command that is known here"
                if words[0] == "mote":
                    _check_command(words[1:], str(block), capsys)


def _check_command(words: list[str], where: str, capsys) -> None:
    """The parser takes the words, files of the repository are there, and the settings are valid."""
    given = [word for word in words if word not in ("...", "--")]
    if not given or given[0].startswith("-") or {"--help", "-h"} & set(given):
        return
    try:
        arguments, rest = _parser().parse_known_args(given)
    except SystemExit:
        if "..." in words and "required" in (error := capsys.readouterr().err):
            assert "--" in error, f"{where}: {error}"
            return
        raise AssertionError(f"{where}: mote {' '.join(given)}: {capsys.readouterr().err}") from None
    settings = [*getattr(arguments, "config", []), *rest]
    assert not [word for word in rest if word.startswith("-")], f"{where}: {rest}"
    if getattr(arguments, "explain", None) is not None:
        return
    files = [ROOT / word for word in settings if word.endswith(".yaml") and word.startswith("configs/")]
    assert all(file.is_file() for file in files), f"{where}: {files}"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            load(files, [word for word in settings if "=" in word])
    except ConfigError as error:
        raise AssertionError(f"{where}: {error}") from None


def test_python_blocks_compile_and_their_names_exist():
    for block in BLOCKS:
        if block.language == "python":
            for node in ast.walk(ast.parse(block.text)):
                if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "mote":
                    for alias in node.names:
                        assert _exists(f"{node.module}.{alias.name}"), f"{block}: {node.module}.{alias.name}"
                if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "mote":
                    assert _exists(f"mote.{node.attr}"), f"{block}: mote.{node.attr}"
        elif block.language == "yaml":
            list(yaml.safe_load_all(block.text))


def _exists(name: str) -> bool:
    """Whether `mote.a.b` is a module or is defined, assigned or imported at the top of the module `mote.a`."""
    file = ROOT.joinpath(*name.split("."))
    if file.is_dir() or file.with_suffix(".py").is_file():
        return True
    module = ROOT.joinpath(*name.split(".")[:-1])
    module = module / "__init__.py" if module.is_dir() else module.with_suffix(".py")
    return bool(re.search(rf"\b{re.escape(name.rpartition('.')[2])}\b", module.read_text(encoding="utf-8")))


def test_names_of_the_package_in_code_spans_exist():
    """`mote.a.b`, `file.py` with a folder, and recipes that pages name."""
    for page in (page for page in PAGES if page.name != "moving.md"):  # that one names files of others
        for span in re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.M | re.S)):
            if re.fullmatch(r"(mote|tools|tests|configs|docs|data)/[a-z0-9_./-]+\.(py|md|yaml|txt|csv)", span):
                assert (ROOT / span).is_file(), f"{page}: {span}"
            elif re.fullmatch(r"mote(\.[A-Za-z_]\w*)+", span):
                assert _exists(span), f"{page}: {span}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page):
    for link in links(page):
        if re.match(r"(https?|mailto):", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if target.parent == DOCS / "generated" and target.stem in GENERATED:
            continue
        assert target.exists(), f"{page}: {link}"
        assert ROOT in target.parents, f"{page}: {link} leaves the repository"
        if anchor and target.suffix == ".md":
            assert anchor in headings(target), f"{page}: {link}; there are {sorted(headings(target))}"


def test_pictures_are_described_in_words():
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        words = re.findall(r"!\[([^\]]*)\]\((?!https?:)", text) + re.findall(r'<img [^>]*alt="([^"]*)"', text)
        assert all(len(text.split()) > 5 for text in words), f"{page}: {words}"


def test_every_page_is_in_the_contents():
    listed = set()
    for block in (block for page in SITE for block in blocks(page) if block.language == "{toctree}"):
        lines = [line.strip() for line in block.text.splitlines() if line.strip() and not line.startswith(":")]
        paths = [re.sub(r"^.*<(.+)>$", r"\1", line) for line in lines]
        listed |= {(block.page.parent / path).with_suffix(".md").resolve() for path in paths}
    generated = {DOCS / "generated" / f"{name}.md" for name in GENERATED - {"protocols_table"}}
    assert listed == {*SITE, *generated} - {DOCS / "index.md"}


def test_the_readme_is_short_and_has_its_picture():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 150
    picture = DOCS / "figures" / "demo.webp"
    assert f"docs/figures/{picture.name}" in text and picture.stat().st_size < 2e6
    assert "pip install uv && uv run mote demo" in text and "pip install uv && uv run pytest" in text


def test_results_in_the_readme_are_those_of_the_page_of_results():
    table = (ROOT / "configs" / "README.md").read_text(encoding="utf-8")
    for row in re.findall(r"^\| .*\d.*\|$", (ROOT / "README.md").read_text(encoding="utf-8"), flags=re.M):
        for figure in re.findall(r"\d+\.\d+(?: ± \d+\.\d+)?", row):
            assert figure in table, f"{figure} of {row}"


def test_the_reference_of_settings_is_complete():
    from mote.config import Config

    text = generate.settings()
    for name, field in Config.model_fields.items():
        inner = getattr(field.annotation, "model_fields", None)
        for key in [f"{name}.{key}" for key in inner] if inner else [name]:
            assert len(re.findall(rf"^\| `{re.escape(key)}` \|", text, flags=re.M)) == 1, key


def test_the_reference_of_commands_is_complete():
    text, found = generate.commands(), [("mote", _parser())]
    while found:
        _, verb = found.pop()
        found += generate.subparsers(verb)
        assert re.search(rf"^#+ {re.escape(verb.prog)}$", text, flags=re.M), verb.prog
        for option in (option for action in verb._actions for option in action.option_strings):
            assert option in text, f"{verb.prog} {option}"


def test_the_reference_of_python_is_complete():
    import mote

    text, listed = generate.python(), [name for names in generate.PUBLIC.values() for name in names]
    assert {f"mote.{name}" for name in mote.__all__ if not name.startswith("__")} <= set(listed)
    assert not [name for name in listed if f"}} {name}" not in text]


def test_the_table_of_protocols_is_complete():
    from mote.protocols.table import PROTOCOLS

    text = generate.protocols_table()
    assert all(f"`{protocol.identifier}`" in text for protocol in PROTOCOLS.values())


def test_every_error_of_ours_is_explained():
    text = (DOCS / "troubleshooting.md").read_text(encoding="utf-8")
    errors = re.findall(r"^class (\w+)\(\w*(?:Error|Exception)\):", sources(), flags=re.M)
    assert len(errors) > 15 and not [name for name in errors if f"`{name}`" not in text]


def test_messages_in_the_troubleshooting_are_ours():
    """Every part of a quoted message without numbers and places stands in a text of the package."""
    page = (DOCS / "troubleshooting.md").read_text(encoding="utf-8")
    for cell in re.findall(r"^\| (`.*?) \|", page, flags=re.M):
        for message in re.findall(r"`([^`]+)`", cell):
            for part in re.split(r"\.\.\.|\b[A-Z]\b|\b[A-Z_]{2,}\b|'[^']*'|\d+|[()?]|s3", message):
                words = part.strip(" :;,")
                if len(words) > 6 and not message.startswith("CUDA"):
                    assert words in sources(), f"{message!r}: {words!r} is in no message of the package"


def test_no_page_names_the_place_where_it_was_written():
    for page in PAGES:
        assert not re.search(r"/work/|/scratch/|\bwt-\w+", page.read_text(encoding="utf-8")), page


@pytest.mark.filterwarnings("default")
@pytest.mark.slow
def test_the_quickest_tutorial_runs(tmp_path, monkeypatch):
    carry_out(DOCS / "tutorials" / "zero_shot.md", tmp_path, monkeypatch)


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize(
    "page",
    [page for page in TUTORIALS if page.stem not in ("index", "zero_shot", "five_classes")],
    ids=lambda page: page.stem,
)
def test_tutorials_run(page, tmp_path, monkeypatch):
    carry_out(page, tmp_path, monkeypatch)


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_a_fresh_reader_gets_from_the_readme_to_a_number_by_a_protocol(tmp_path, monkeypatch, capsys, record_property):
    """Own result, model of own classes, protocol, setting: commands as the pages have them; their seconds, printed."""
    readme, seconds = ROOT / "README.md", dict[str, float]()
    monkeypatch.chdir(tmp_path)

    def run(name: str, page: Path, start: str, **instead: str) -> str:
        """What a command of a page prints. instead: words of it that the reader replaces."""
        begun, words = time.perf_counter(), command(page, start)
        capsys.readouterr()
        assert mote(*(instead.get(word.replace("/", "_"), word) for word in words[1:])) == 0, words
        seconds[name] = time.perf_counter() - begun
        return capsys.readouterr().out

    write_video(Path("clip.mp4"), render_clip(np.random.default_rng(0), "red star", "growing"))
    assert "clip.mp4: red star " in run("own result", readme, "mote predict tiny clip.mp4")
    begun = time.perf_counter()
    carry_out(DOCS / "tutorials" / "five_classes.md", tmp_path, monkeypatch)
    seconds["model of own classes"] = time.perf_counter() - begun
    assert json.loads(Path("runs/five/metrics.json").read_text())["top1"] > 0.5  # of five classes
    write_ucf101(Path("UCF-101"), Path("ucfTrainTestlist"))
    run("lists of a protocol", DOCS / "protocols.md", "mote data prepare ucf101")
    out = run("number by a protocol", readme, "mote eval runs/a --protocol", runs_a="runs/five")
    result = json.loads(Path("runs/five/evaluations/ucf101-zs.json").read_text())
    assert f"top-1 {100 * result['top1']:.1f} +- {100 * result['top1_std']:.1f}, " in out and "over 3 lists" in out
    assert f"{100 * result['top1']:.1f} ± " in Path("runs/five/evaluations/ucf101-zs/index.html").read_text()
    assert "learning rate" in run("what a setting means", readme, "mote config --explain").lower()
    print(seconds)
    for name, value in seconds.items():
        record_property(name, round(value, 1))


@pytest.mark.slow
def test_the_site_is_built_without_a_warning(tmp_path):
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html", str(DOCS), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-4000:]
    for page in SITE:
        assert (tmp_path / page.relative_to(DOCS).with_suffix(".html")).is_file(), page

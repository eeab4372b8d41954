"""The command line as the shell asks it to complete, through argcomplete's protocol."""

import io
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import argcomplete
import pytest

from mote.cli import main
from mote.config.explain import settings

ROOT = Path(__file__).parents[2]
CODE = "import sys; from mote.cli import main; sys.argv[0] = 'mote'; main()"


def asked(line: str) -> dict[str, str]:
    """What the shell sets to ask what follows in place of the last word of `line`."""
    words = " \t\n\"'><;|&("  # that break words in zsh; in bash = and : too
    found = {"_ARGCOMPLETE": "1", "_ARGCOMPLETE_IFS": "\013", "_ARGCOMPLETE_COMP_WORDBREAKS": words}
    return {**found, "COMP_LINE": line, "COMP_POINT": str(len(line)), "_ARGCOMPLETE_SUPPRESS_SPACE": "1"}


def words_of(text: str) -> list[str]:
    return [word.replace("\\", "") for word in text.split("\013")] if text else []


def completed(line: str, monkeypatch) -> list[str]:
    out = io.StringIO()
    for name, value in asked(line).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(argcomplete.CompletionFinder, "_init_debug_stream", lambda finder: None)  # on 9, pytest's
    answer = partial(argcomplete.autocomplete, exit_method=sys.exit, output_stream=out)
    monkeypatch.setattr(argcomplete, "autocomplete", answer)
    with pytest.raises(SystemExit):
        main()
    return words_of(out.getvalue())


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A working folder with recipes, a run, and a list."""
    place = tmp_path_factory.mktemp("work")
    for name in ("configs/ucf101.yaml", "configs/ablations/k_1.yaml", "runs/a/config.yaml", "list.csv", ".hidden"):
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).touch()
    return place


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("mote ev", ["eval"]),
        ("mote data f", ["few-shot"]),
        ("mote predict tiny --lab", ["--labels"]),
        ("mote train optim.l", ["optim.lr=", "optim.lr_decay="]),
        ("mote train optim.precision=b", ["optim.precision=bf16"]),
        ("mote train run.cpu=", ["run.cpu=true", "run.cpu=false"]),
        ("mote train data.train=l", ["data.train=list.csv"]),
        ("mote train seed=1 configs/u", ["configs/ucf101.yaml"]),
        ("mote train configs/ab", ["configs/ablations/k_1.yaml", "configs/ablations/"]),
        ("mote eval runs/", ["runs/a/"]),
        ("mote predict t", ["tiny"]),
        ("mote eval tiny --protocol ucf101-zs@", ["ucf101-zs@1"]),
        ("mote data prepare kinetics7", ["kinetics700"]),
        ("mote config --explain mixing.r", ["mixing.ratio", "mixing.ratio="]),
        ("mote predict tiny clip.mp4 --crops ", ["1", "3"]),
        ("mote train zebra=", []),
    ],
)
def test_a_word_is_completed(line: str, expected: list[str], folder: Path, monkeypatch):
    monkeypatch.chdir(folder)
    assert sorted(completed(line, monkeypatch)) == sorted(expected)


def test_all_settings_are_offered_and_files(folder: Path, monkeypatch):
    monkeypatch.chdir(folder)
    found = completed("mote train ", monkeypatch)
    assert {f"{setting.key}=" for setting in settings()} <= set(found)
    assert {"--resume", "configs/ucf101.yaml", "runs/", "list.csv"} <= set(found) and ".hidden" not in found


def test_a_process_of_its_own_answers_without_torch(tmp_path: Path):
    for name in ("torch", "numpy"):  # `-c` finds these before the real ones
        (tmp_path / f"{name}.py").write_text(f"raise AssertionError('{name} is imported')")
    out = tmp_path / "answer"
    environment = {**os.environ, **asked("mote train optim.b"), "PYTHONPATH": str(ROOT)}
    environment["_ARGCOMPLETE_STDOUT_FILENAME"] = str(out)
    subprocess.run([sys.executable, "-c", CODE], cwd=tmp_path, env=environment, check=True, capture_output=True)
    assert sorted(words_of(out.read_text())) == ["optim.backbone_lr_scale=", "optim.batch_size=", "optim.betas="]

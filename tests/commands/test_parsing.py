"""The parsers: help with examples that can be typed, and mistakes that name what was meant."""

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from command_line import fails, mote

from mote.cli import GROUPS, _parser
from mote.commands.parsing import Parser
from mote.config import load

ROOT = Path(__file__).parents[2]


def every_verb(parser: Parser) -> Iterator[Parser]:
    for verb in parser.verbs.values():
        yield verb
        yield from every_verb(verb)


VERBS = list(every_verb(_parser()))
EXAMPLES = [(verb.prog, example) for verb in VERBS for example in verb.examples]


def test_mote_alone_lists_every_verb_in_its_group_with_an_example(capsys):
    assert mote() == 0
    alone = capsys.readouterr().out
    assert mote("--help") == 0
    assert capsys.readouterr().out == alone
    for group in ("own videos", "training", "evaluation", "data", "models"):
        assert group in GROUPS and f"\n{group}:\n" in alone
    for name, verb in _parser().verbs.items():
        assert len(re.findall(rf"^  {name} ", alone, flags=re.M)) == 1, name
        assert f"$ {verb.examples[0]}\n" in alone


def test_mote_data_alone_is_its_help(capsys):
    assert mote("data") == 0
    out = capsys.readouterr().out
    assert "few-shot" in out and "mote data split train.csv" in out


@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb.prog)
def test_the_help_of_a_verb_has_examples_and_says_what_it_writes(verb: Parser):
    text = verb.format_help()
    assert f"writes: {verb.writes}" in " ".join(text.split()).replace("  ", " ") and len(verb.writes) > 0
    assert all(f"\n  {example}\n" in text for example in verb.examples) and verb.examples
    assert not [action.dest for action in verb._actions if not action.help and action.nargs != "A..."]


@pytest.mark.parametrize(("program", "example"), EXAMPLES, ids=lambda text: text)
def test_an_example_is_what_its_parser_takes(program: str, example: str):
    words = shlex.split(example)
    assert words[: len(program.split())] == program.split() or program == "mote data"
    arguments, rest = _parser().parse_known_args(words[1:])
    settings = [*getattr(arguments, "config", []), *rest]
    files = [ROOT / word for word in settings if word.startswith("configs/")]
    assert all(file.is_file() for file in files)
    load(files, [word for word in settings if "=" in word])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("evla", "evla: no verb of mote; did you mean mote eval?"),
        ("evaluate runs/a", "evaluate: no verb of mote; did you mean mote eval?"),
        ("shard list.csv", "did you mean mote data shard?"),
        ("run.yaml", "settings follow a verb: mote train run.yaml"),
        ("zebra", "verbs are predict, encode"),
        ("data splt", "splt: no verb of mote data; did you mean mote data split?"),
        ("data prepare ucf101 --splitz x", "--splitz: no option of mote data prepare; did you mean --splits?"),
        ("data evla", "evla: no verb of mote data; verbs are prepare, verify"),
        ("train --lr 1e-4", "--lr: no option of mote train; it is a setting: write optim.lr=1e-4"),
        ("train --lr=1e-4 configs/ucf101.yaml", "write optim.lr=1e-4"),
        ("train --optim.lr 1e-4", "write optim.lr=1e-4"),
        ("train -lr -1", "write optim.lr=-1"),
        ("train --epochs 3", "write optim.epochs=3"),
        ("train --epochs --resume", "write optim.epochs=VALUE"),
        ("train --batch-size 8", "write optim.batch_size=8 or evaluation.batch_size=8"),
        ("train --learning-rate 3", "write optim.lr=3"),
        ("train --out runs/a", "--out: no option of mote train; it is a setting: write run.out=runs/a"),
        ("train --cpu", "write run.cpu=true"),
        ("train --epoch 3", "did you mean the setting optim.epochs=3?"),
        ("train -resume", "--resume"),
        ("train --mixup", "options are --resume, --dry-run"),
        ("predict --lr 3", "--lr: no option of mote predict; optim.lr is a setting, which mote predict does not take"),
        ("predict tiny a.mp4 --lables a,b", "did you mean --labels"),
        ("predict tiny a.mp4 --crops 5", "--crops 5: expected 1 or 3"),
        ("predict tiny", "required: videos, as in: mote predict tiny clip.mp4 --labels"),
        ("data prepare ucf --out x", "layout ucf: expected ucf101, hmdb51,"),
        ("data prepare ucf10 --out x", "did you mean ucf101?"),
        ("eval tiny --protocol ucf101-sz --lists x", "unknown protocol 'ucf101-sz'; did you mean ucf101-zs@1"),
        ("demo fases", "expected shapes, faces or timelines; did you mean faces?"),
        ("compact a --out b c.d=1", "c.d=1: more than mote compact takes; it takes no settings"),
        ("--resume", "write it behind its verb: mote train --resume"),
        ("config lr=1", "lr: unknown key; did you mean optim.lr?"),
        ("config model.lr=1", "model.lr: unknown key; did you mean optim.lr?"),
        ("config train.epochs=1", "train: unknown key; did you mean optim.epochs?"),
        ("config optm.lr=1", "optm: unknown key; did you mean 'optim'?"),
        ("config --explain optim.lrr", "did you mean optim.lr?"),
        ("config optim.lr 1", "a setting is written with its value: optim.lr=VALUE"),
        ("config zebra", "zebra: there is no such file or run directory; settings are written as optim.lr=1e-4"),
    ],
)
def test_a_slip_is_one_line_that_says_what_was_meant(words: str, message: str, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert message in fails(capsys, *words.split())


def test_what_stands_where_settings_belong_is_named(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "clips").mkdir()
    (tmp_path / "list.csv").write_text("path,label\n")
    (tmp_path / "recipe.yaml").write_text("seed: 1\n")
    folder = fails(capsys, "config", "clips")
    assert "clips: is no run directory" in folder and "evaluation.manifest=clips to score" in folder
    assert "data.train=list.csv to train on it" in fails(capsys, "config", "list.csv")
    assert "`mote predict MODEL clip.mp4` names it" in fails(capsys, "config", "clip.mp4")
    assert "did you mean recipe.yaml?" in fails(capsys, "config", "recipes.yaml")
    assert mote("config", "recipe.yaml") == 0
    (tmp_path / "settings.txt").write_text("seed: 1\n")
    assert mote("config", "settings.txt") == 0


def test_traceback_may_stand_behind_the_verb_too(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for words in (("--traceback", "config", "zebra"), ("config", "--traceback", "zebra")):
        with pytest.raises(ValueError, match="zebra"):
            mote(*words)


def test_slips_and_help_are_answered_without_torch():
    code = "import sys; from mote.cli import main\ntry: main(sys.argv[1:])\nexcept SystemExit: pass\n"
    code += "assert not {'torch', 'numpy'} & set(sys.modules)"
    for words in ("train --lr 1", "config lr=1", "predict --help"):
        subprocess.run([sys.executable, "-c", code, *words.split()], check=True, capture_output=True)

"""What needs no torch imports none: light verbs, and mistakes that files and settings tell, in one fresh process.

Also that nothing Unix-only is needed to import the package.
"""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from made_evaluation import make_evaluation
from video_files import numbered_frames, write_video

PACKAGE = Path(__file__).resolve().parents[1] / "mote"
HEAVY = ("torch", "open_clip", "scipy", "sklearn", "matplotlib", "transformers", "timm")
DONE, BAD, MISTAKE = 0, 1, 2
TRAIN = [
    "data.train=list.txt",
    "data.classes=classes.txt",
    "model.backbone=tiny",
    "model.pretrained=null",
    "run.out=new",
]
EVAL = ["eval", "tiny", "evaluation.classes=classes.txt"]
LIGHT = {  # command -> exit code
    "config": DONE,
    "cache size kept": DONE,
    "cache clear kept": DONE,
    "eval --protocols": DONE,
    "compare made.json made.json": DONE,
    "eval --verify gone.json": MISTAKE,
    "data prepare ucf101 --videos clips --splits gone --out prepared": MISTAKE,
    "data split list.txt --fraction 0.5 --out split": DONE,
    "data few-shot list.txt --shots 1 --out shots.txt": DONE,
    "data overlap classes.txt classes.txt": DONE,
    "data shard list.txt --out shards": DONE,
    "data verify list.txt": DONE,
    "data verify missing.txt": BAD,
}
MISTAKES = {  # command -> part of its one line
    "train data.trian=a": "data.trian: unknown key",
    "train optim.lr=-1": "optim.lr",
    "train data.train=list.txt": "run.out is not set",
    " ".join(["train", *TRAIN, "data.train=gone.txt"]): "gone.txt: there is no such file",
    " ".join(["train", *TRAIN, "data.classes=gone.txt"]): "gone.txt",
    " ".join(["train", *TRAIN, "data.templates=gone.txt"]): "gone.txt",
    " ".join(["train", *TRAIN, "data.train=labels.txt"]): "label 900 is outside",
    " ".join(["train", *TRAIN, "evaluation.manifest=missing.txt"]): "1 of 5 files are missing",
    " ".join(["train", *TRAIN, "model.backbone=ViT-B-61"]): "did you mean ViT-B-16",
    " ".join(["train", *TRAIN, "model.backbone=ViT-B-16", "model.pretrained=opnai"]): "unknown pretrained tag 'opnai'",
    " ".join(["train", *TRAIN, "model.backbone=ViT-B-16", "model.pretrained=gone.pt"]): "gone.pt: no such checkpoint",
    " ".join(["train", *TRAIN, "model.init=gone"]): "gone: there is no such run directory",
    " ".join(["train", *TRAIN, "run.out=clips"]): "already holds",
    " ".join(["train", "--dry-run", *TRAIN, "data.train=gone.txt"]): "gone.txt: there is no such file",
    " ".join(["train", *TRAIN, "task=image", "data.train=gone"]): "gone: there is no such file",
    " ".join([*EVAL, "--protocol", "ucf", "--lists", "."]): "unknown protocol 'ucf'",
    " ".join([*EVAL[:2], "--protocol", "ucf101-zs@1", "--lists", "clips"]): "test1.txt",
    " ".join([*EVAL, "evaluation.manifest=gone.txt"]): "gone.txt: there is no such file",
    " ".join([*EVAL, "evaluation.manifest=missing.txt"]): "1 of 5 files are missing",
    " ".join([*EVAL, "evaluation.manifest=list.txt", "--union-labels", "gone.txt"]): "gone.txt",
    "eval runs/gone evaluation.manifest=list.txt": "runs/gone: there is no such run directory",
    "eval tiny evaluation.manifest=list.txt --window 2x": "--window 2x",
    "predict runs/gone clip.avi": "runs/gone: there is no such run directory",
    "predict empty clip.avi": "model.json: not found",
    "predict gone.pt clip.avi": "gone.pt: not found",
    "predict gone.safetensors clip.avi": "gone.safetensors",
    "predict ViT-B-61:openai clip.avi --labels a,b": "did you mean ViT-B-16",
    "predict tiny gone.mp4 --labels a,b": "gone.mp4: no such video file",
    "predict tiny clip.avi": "no classes of its own",
    "predict tiny clip.avi --labels a,b --templates gone.txt": "gone.txt",
    "predict tiny clip.avi --labels a,b --threshold 3": "--threshold 3",
    "predict tiny clip.avi --labels a,b --window 2x": "--window 2x",
    "predict tiny gone.mp4 --labels a,b --window 2s": "gone.mp4: no such video file",
    "encode tiny gone.mp4 --out features": "gone.mp4: no such video file",
    "search gone cat": "gone: no folder of features",
    "fit gone gone.csv --out fitted": "gone: no folder of features",
    "export runs/gone --out m.safetensors": "runs/gone: there is no such run directory",
    "export tiny --labels a,b --out model.xyz": "expected one of safetensors",
    "compact runs/gone --out small": "runs/gone: there is no such run directory",
    "diagnose runs/gone": "runs/gone: is no run directory",
    "frontier runs/gone --closed list.txt --zero-shot list.txt": "runs/gone: there is no such run directory",
    "sample empty --out sheet.png": "empty: holds no autoencoder",
    "push runs/gone me/model": "runs/gone: there is no such run directory",
    "collect gone": "gone: no folder of predictions",
}
PROGRAM = f"""
import contextlib, io, json, shlex, sys
from mote.cli import main
for command in json.load(sys.stdin):
    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
        try:
            main(shlex.split(command))
        except SystemExit as stop:
            code = stop.code
    heavy = [name for name in {HEAVY!r} if name in sys.modules]
    print(json.dumps([command, code, said.getvalue(), heavy]), flush=True)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Lists of four clips, a class file, a result, a folder that holds nothing."""
    folder = tmp_path_factory.mktemp("start_up")
    (folder / "classes.txt").write_text("ApplyEyeMakeup\nArchery\n")
    lines = []
    for label, name in enumerate(("ApplyEyeMakeup", "Archery")):
        for number in (1, 2):
            path = folder / "clips" / name / f"v_{name}_g0{number}_c01.avi"
            path.parent.mkdir(parents=True, exist_ok=True)
            write_video(path, numbered_frames(4), codec="mpeg4")
            lines.append(f"clips/{name}/{path.name} {label}\n")
    (folder / "clip.avi").write_bytes(path.read_bytes())
    (folder / "list.txt").write_text("".join(lines))
    (folder / "missing.txt").write_text("".join(["clips/gone.avi 0\n", *lines]))
    (folder / "labels.txt").write_text("".join([*lines, "clips/more.avi 900\n"]))
    (folder / "kept").mkdir()
    (folder / "kept" / "mote-feature-cache-1").touch()
    (folder / "empty").mkdir()
    make_evaluation(folder, ["one", "two", "three"])
    return folder


def test_light_verbs_and_mistakes_import_no_torch(folder):
    commands = [*LIGHT, *MISTAKES]
    environment = {**os.environ, "PYTHONPATH": str(PACKAGE.parent)}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        input=json.dumps(commands),
        capture_output=True,
        text=True,
        cwd=folder,
        env=environment,
    )
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(found) == len(commands), done.stderr
    for command, code, said, heavy in found:
        assert heavy == [], f"mote {command} imports {heavy[0]}"
        assert code == LIGHT.get(command, MISTAKE), f"mote {command}: {code}, {said}"
        if command in MISTAKES:
            assert MISTAKES[command] in said and said.count("\n") == 1, f"mote {command}: {said}"
    assert not (folder / "new").exists()


BLOCKED = """
import importlib, os, signal, sys
for name in ("resource", "fcntl", "termios", "pwd", "grp", "tty", "pty"):
    sys.modules[name] = None
for name in ("SIGKILL", "SIGCHLD", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGALRM", "SIGQUIT", "SIGPIPE"):
    delattr(signal, name)
for name in ("fork", "getuid", "geteuid", "sched_getaffinity", "sched_setaffinity", "uname"):
    delattr(os, name)
for module in sys.stdin.read().split():
    importlib.import_module(module)
"""


@pytest.mark.slow
def test_every_module_imports_without_what_windows_lacks():
    pytest.importorskip("ray")
    modules = [".".join(file.relative_to(PACKAGE.parent).with_suffix("").parts) for file in PACKAGE.rglob("*.py")]
    warm = (
        "import torch, accelerate, peft, open_clip, timm, sklearn, scipy.stats, matplotlib.figure, huggingface_hub, ray"
    )
    names = "\n".join(sorted(name.removesuffix(".__init__") for name in modules if not name.endswith("__main__")))
    done = subprocess.run([sys.executable, "-c", f"{warm}\n{BLOCKED}"], input=names, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_what_only_unix_has_is_asked_for_where_it_is_used():
    """No module of the package imports it, or takes it of `os` and `signal`, while it is imported."""
    unix = {"resource", "fcntl", "termios", "pwd", "grp", "tty", "pty", "syslog"}
    names = {("os", "fork"), ("os", "getuid"), ("os", "sched_getaffinity"), ("os", "uname"), ("os", "killpg")}
    windows = {"SIGINT", "SIGTERM", "SIGABRT", "SIGFPE", "SIGILL", "SIGSEGV", "SIG_DFL", "SIG_IGN"}
    for file in PACKAGE.rglob("*.py"):
        for node in _at_import(ast.parse(file.read_text()).body):
            for part in ast.walk(node):
                if isinstance(part, ast.Import):
                    assert not unix & {alias.name for alias in part.names}, file
                if isinstance(part, ast.Attribute) and isinstance(part.value, ast.Name):
                    assert (part.value.id, part.attr) not in names, file
                    assert not (part.value.id == "signal" and part.attr.startswith("SIG") and part.attr not in windows)


def _at_import(body: list[ast.stmt]) -> list[ast.stmt]:
    """Statements that run when a module is imported, but those of functions and of `try`."""
    found = []
    for node in body:
        if isinstance(node, (ast.ClassDef, ast.If, ast.With)):
            found += _at_import(node.body)
        elif not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Try)):
            found.append(node)
    return found

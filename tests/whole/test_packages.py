"""The built distribution: what is in it, whether it works in an environment of its own, what is said without extras."""

import json
import os
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest
from video_files import numbered_frames, write_video

ROOT = Path(__file__).resolve().parents[2]
DATA = ("py.typed", "assets/tiny_clip.safetensors", "data/classes/kinetics400.txt", "data/templates/kinetics28.txt")
PAGES = [f"reporting/{file.name}" for file in (ROOT / "mote" / "reporting").glob("*.j2")]


def test_messages_name_the_distribution_and_extras_that_there_are():
    """The name `mote` belongs to another project on the package index."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["name"] == "mote-video" and project["scripts"] == {"mote": "mote.cli:main"}
    extras = project["optional-dependencies"]
    for file in [
        ROOT / "README.md",
        *ROOT.glob("docs/**/*.md"),
        *ROOT.glob("mote/**/*.py"),
        *ROOT.glob("configs/**/*.*"),
    ]:
        text = file.read_text()
        assert "mote[" not in text, f"{file}: write mote-video[...]"
        for found in text.split("mote-video[")[1:]:
            names = found.split("]")[0]
            if names.isidentifier():  # not what a program puts there
                assert names in extras, f"{file}: there is no extra {names}"


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    """Folder with the wheel, which is built from the sdist, and the sdist."""
    if shutil.which("uv") is None:
        pytest.skip("uv is not here")
    out = tmp_path_factory.mktemp("dist")
    done = subprocess.run(["uv", "build", "--quiet", "--out-dir", out, ROOT], capture_output=True, text=True)
    if done.returncode and "hatchling" in done.stderr:
        pytest.skip(f"the build backend could not be fetched: {done.stderr[-200:]}")
    assert done.returncode == 0, done.stderr
    return out


@pytest.fixture(scope="module")
def environment(built, tmp_path_factory) -> Path:
    """The programs of an environment with the wheel; its dependencies are those of the environment of the tests."""
    place = tmp_path_factory.mktemp("environment")
    subprocess.run(["uv", "venv", "--quiet", "--python", sys.executable, place], check=True)
    (wheel,) = built.glob("*.whl")
    python = place / "bin" / "python"
    install = ["uv", "pip", "install", "--quiet", "--no-deps", "--offline", "--python", python, wheel]
    subprocess.run(install, check=True)
    site = subprocess.run(
        [python, "-c", "import site; print(site.getsitepackages()[0])"], capture_output=True, text=True, check=True
    ).stdout.strip()
    theirs = next(path for path in sys.path if path.endswith("site-packages"))
    Path(site, "of_the_tests.pth").write_text(f"{theirs}\n")  # behind what is installed here
    return place / "bin"


def alone() -> dict[str, str]:
    """The environment without what points to the checkout."""
    return {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "VIRTUAL_ENV")}


def run(environment: Path, folder: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [environment / "mote", *arguments], capture_output=True, text=True, cwd=folder, env=alone(), timeout=600
    )


@pytest.mark.slow
def test_wheel_and_sdist_hold_the_package_its_data_and_the_license(built):
    (wheel,), (source,) = built.glob("mote_video-*.whl"), built.glob("mote_video-*.tar.gz")
    with zipfile.ZipFile(wheel) as file:
        names = set(file.namelist())
    modules = {path.relative_to(ROOT).as_posix() for path in (ROOT / "mote").rglob("*.py")}
    wanted = modules | {f"mote/{name}" for name in (*DATA, *PAGES)}
    assert wanted <= names, sorted(wanted - names)
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert {name.split("/")[0].removesuffix(".dist-info").split("-")[0] for name in names} == {"mote", "mote_video"}
    with tarfile.open(source) as file:
        held = {name.partition("/")[2] for name in file.getnames()}
    assert {"pyproject.toml", "README.md", "LICENSE", "mote/py.typed", "data/classes/ucf101.csv"} <= held


@pytest.mark.slow
def test_the_installed_wheel_helps_names_videos_and_exports(environment, tmp_path):
    write_video(tmp_path / "clip.mp4", numbered_frames(16))
    code = "import mote, sys; print(mote.__file__)"
    place = subprocess.run(
        [environment / "python", "-c", code], capture_output=True, text=True, cwd=tmp_path, check=True, env=alone()
    ).stdout
    assert str(environment.parent) in place, "the package is that of the checkout"
    for arguments in (["--help"], ["demo", "--help"]):
        assert run(environment, tmp_path, *arguments).returncode == 0
    named = run(environment, tmp_path, "predict", "tiny", "clip.mp4", "--labels", "square,triangle")
    assert named.returncode == 0 and named.stdout.startswith("clip.mp4: "), named.stderr
    out = ["--labels", "square,triangle", "--out", "model.safetensors"]
    exported = run(environment, tmp_path, "export", "tiny", *out)
    assert exported.returncode == 0 and (tmp_path / "model.safetensors").is_file(), exported.stderr


WITHOUT = """
import contextlib, io, json, sys
class Missing:
    names = ()
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in self.names:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
missing = Missing()
sys.meta_path.insert(0, missing)
from mote.cli import main
for packages, command in json.load(sys.stdin):
    missing.names, said = packages.split(","), io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            main(command.split())
    except SystemExit as stop:
        print(json.dumps([packages, command, stop.code, said.getvalue()]), flush=True)
"""
EXTRAS = {  # packages that are not there, command -> extra
    ("pyarrow", "encode tiny clip.mp4 --out features"): "parquet",
    ("pyarrow", "predict tiny clip.mp4 --labels a,b --out parts"): "parquet",
    ("pyarrow", "collect parts"): "parquet",
    ("pyarrow", "search features cat"): "parquet",
    ("pyarrow", "fit features labels.csv --out fitted"): "parquet",
    ("sklearn", "fit features labels.csv --out fitted"): "analysis",
    ("scipy", "diagnose --compare a b"): "analysis",
    ("cv2", "predict tiny clip.mp4 --labels a,b --faces"): "faces",
    ("webvtt", "predict tiny clip.mp4 --labels a,b --window 2s --vtt a.vtt"): "timelines",
    ("ray", "predict tiny clip.mp4 --labels a,b --engine ray"): "ray",
    ("onnx,onnxscript", "export tiny --labels a,b --out m.onnx"): "onnx",
    ("aiohttp", "predict tiny https://127.0.0.1:9/a.mp4 --labels a,b"): "remote",
}


def test_without_an_extra_one_line_names_it(tmp_path):
    """All in one process: none of the commands imports what another one lacks."""
    (tmp_path / "clip.mp4").write_bytes(b"\0")
    (tmp_path / "labels.csv").write_text("path,label\na,b\n")
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT],
        input=json.dumps([*EXTRAS]),
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(found) == len(EXTRAS), done.stderr
    for packages, command, code, said in found:
        extra = f"pip install 'mote-video[{EXTRAS[packages, command]}]'"
        assert code == 2 and extra in said and said.count("\n") == 1, f"mote {command}: {said}"

"""Shared folders: complete, loadable, honest about results; the Hub through a cache and a recording client."""

import json
import shutil

import huggingface_hub
import numpy as np
import pytest
import torch
import yaml
from huggingface_hub import constants
from safetensors.torch import load_file, save_file

from mote import load
from mote.cli import main
from mote.config import Config, dump
from mote.datasets.decoding.encode import write_video
from mote.datasets.synthetic.clips import render_clip
from mote.inference import hub, sharing
from mote.inference.hub import HubError, is_repo_id
from mote.inference.sharing import push, push_to_hub, save_pretrained
from mote.models.checkpoints import save_model
from mote.models.tiny import TINY_WEIGHTS

NAMES = ["red star", "blue ball"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run directory as training leaves it, of tiny CLIP as it is, with one result on its own weights."""
    run = tmp_path_factory.mktemp("runs") / "run"
    plain = load("tiny", device="cpu")
    meta = {**plain.meta, "classes": NAMES, "templates": ["{}"], "frames": 4, "size": 64}
    plain.templates = ["{}"]
    save_model(run / "best", plain.model, meta, {"tuned_text": plain.text_features(NAMES)})
    (run / "config.yaml").write_text(dump(Config()))
    for i, name in enumerate(NAMES):
        write_video(run.parent / f"{i}.mp4", render_clip(np.random.default_rng(i), name, "moving left", 8))
    (run.parent / "test list.txt").write_text("0.mp4 0\n1.mp4 1\n")
    with pytest.raises(SystemExit) as stop:
        main(["eval", str(run), f"evaluation.manifest={run.parent / 'test list.txt'}", "run.cpu=true"])
    assert stop.value.code == 0
    shutil.copy(run / "evaluations" / "eval.json", run / "metrics.json")
    return run


def test_a_shared_folder_is_complete_and_gives_the_same_scores(run, tmp_path):
    folder = tmp_path / "shared"
    assert push(str(run), str(folder)) == str(folder)
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert names == {"README.md", "config.yaml", "evaluations/eval.json", "model.json", "model.safetensors"}
    assert [path.name for path in tmp_path.iterdir()] == ["shared"]
    video = run.parent / "0.mp4"
    scores = load(str(run), device="cpu").classify_video(video)
    assert load(str(folder), device="cpu").classify_video(video) == scores
    assert load(str(folder), device="cpu").classify_video(video) == scores


def test_a_shared_folder_names_no_folders_of_this_machine(run, tmp_path, monkeypatch):
    assert str(run.parent) in (run / "evaluations" / "eval.json").read_text()
    monkeypatch.chdir(run.parent)
    description = run / "best" / "model.json"
    before = description.read_text()
    named = {"started_from": f"{run.parent}/other run", "note": f"see {run.parent}/a/b.txt, {run.parent}/c d/e"}
    description.write_text(json.dumps({**json.loads(before), **named}))
    save_pretrained(run, tmp_path / "shared")
    description.write_text(before)
    for file in (tmp_path / "shared").rglob("*"):
        if file.suffix in (".json", ".yaml", ".md"):
            assert str(run.parent) not in file.read_text() and str(tmp_path) not in file.read_text(), file
    assert 'mote.load("shared")' in (tmp_path / "shared" / "README.md").read_text()
    shared = json.loads((tmp_path / "shared" / "evaluations" / "eval.json").read_text())
    assert shared["provenance"]["config"]["evaluation"]["manifest"] == "test list.txt"
    assert sharing.without_places(["/a/b/c.txt", "local-dir:/a/b", "a/b", "50 / 50", 3, None]) == [
        "c.txt", "local-dir:b", "a/b", "50 / 50", 3, None,
    ]  # fmt: skip


def test_names_that_look_like_places_stay():
    names = {"classes": ["/m/09x0r", "and/or"], "class": "/m/09x0r", "manifest": "/m/lists/test.txt"}
    assert sharing.without_places(names) == {**names, "manifest": "test.txt"}
    text = "cannot open /home/someone/videos/a.mp4: see https://a.org/b/c and/or 3/4"
    assert sharing.without_places(text) == "cannot open a.mp4: see https://a.org/b/c and/or 3/4"


def test_damaged_results_and_folders_are_left_out_or_refused(run, tmp_path, capsys):
    other = shutil.copytree(run, tmp_path / "run")
    result = json.loads((other / "metrics.json").read_text())
    for number, text in enumerate(["{", "[]", "3", json.dumps({**result, "top5": None, "task": "x"})]):
        (other / "evaluations" / f"{number}.json").write_text(text)
    save_pretrained(other, tmp_path / "shared")
    assert capsys.readouterr().err.count("left out, it is damaged") == 4
    description = json.loads((other / "best" / "model.json").read_text())
    (other / "best" / "model.json").write_text(json.dumps({**description, "pretrained": 5}))
    with pytest.raises(ValueError, match=r"model\.json: pretrained: Input should be a valid string, got '5'"):
        save_pretrained(other, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_the_card_says_what_the_files_say(run, tmp_path):
    save_pretrained(run, tmp_path / "a", license="apache-2.0")
    text = (tmp_path / "a" / "README.md").read_text()
    result = json.loads((run / "metrics.json").read_text())
    front = yaml.safe_load(text.split("---")[1])
    assert front["license"] == "apache-2.0" and front["library_name"] == "mote" and "zero-shot" in front["tags"]
    (entry,) = front["model-index"][0]["results"]
    first = entry["metrics"][0]
    assert first["value"] == pytest.approx(100 * result["top1"])
    assert first["args"]["interval_95"] == [round(100 * end, 2) for end in result["top1_interval"]]
    assert "eval (test list.txt)" in text and "1 clips x 1 crops, mean_softmax" in text and "2 of 2" in text
    assert "red star, blue ball" in text and "backbone: tiny" in text and "mote.load(" in text
    save_pretrained(run, tmp_path / "b")
    assert "license" not in yaml.safe_load((tmp_path / "b" / "README.md").read_text().split("---")[1])


def test_the_card_says_how_frames_become_pixels_and_where_a_result_saw_others(run, tmp_path):
    other = shutil.copytree(run, tmp_path / "run")
    save_pretrained(other, tmp_path / "a")
    text = (tmp_path / "a" / "README.md").read_text()
    assert "Preprocessing of a frame: the short side to 64 pixels, then the central square; bicubic" in text
    assert "; mean 0.481455 0.457828 0.408211; standard deviation 0.268630 " in text.replace("0.26863 ", "0.268630 ")
    assert text.count("1 clips x 1 crops, mean_softmax, modulation on for new classes |") == 1
    description, metrics = other / "best" / "model.json", other / "metrics.json"
    meta, result = json.loads(description.read_text()), json.loads(metrics.read_text())
    own = {"interpolation": "bilinear", "resize": "longest", "fill": [1, 2, 3]}
    description.write_text(json.dumps({**meta, "preprocessing": own}))
    result["provenance"]["config"]["data"] |= {"frames": 16, "stride": 7}  # of segments, which have no stride
    metrics.write_text(json.dumps(result))
    save_pretrained(other, tmp_path / "b")
    text = (tmp_path / "b" / "README.md").read_text()
    assert "the long side to 64 pixels, with bars of the colour (1, 2, 3); bilinear" in text
    saw = "modulation on for new classes, frames 16, interpolation bicubic, resize shortest"
    assert f"{saw} |" in text and yaml.safe_load(text.split("---")[1])["model-index"][0]["results"][0]["metrics"][0][
        "args"
    ]["protocol"].endswith(saw)


def test_results_on_other_weights_are_left_out(run, tmp_path, capsys):
    other = shutil.copytree(run, tmp_path / "run")
    result = json.loads((other / "metrics.json").read_text())
    result["provenance"]["hashes"]["weights"] = "0" * 64
    (other / "evaluations" / "old.json").write_text(json.dumps({**result, "task": "old"}))
    save_pretrained(other, tmp_path / "shared")
    assert "old.json: left out" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "shared" / "evaluations").iterdir()] == ["eval.json"]


def test_weights_of_a_local_clip_are_shared_too(run, tmp_path, capsys):
    """Who downloads the folder has no such file: new names were an error there, or the text tower of other weights."""
    weights = tmp_path / "mine" / "my tower.safetensors"
    weights.parent.mkdir()
    tensors = load_file(TINY_WEIGHTS)
    name = next(name for name in tensors if "token_embedding" in name)
    save_file({**tensors, name: tensors[name].flip(0)}, weights)
    other = shutil.copytree(run, tmp_path / "run")
    description = other / "best" / "model.json"
    description.write_text(json.dumps({**json.loads(description.read_text()), "pretrained": str(weights)}))
    new = ["green cross", "blue ball", "red star"]
    expected = load(str(other), device="cpu").text_features(new)
    assert not torch.equal(expected, load(str(run), device="cpu").text_features(new))
    shared = save_pretrained(other, tmp_path / "shared")
    assert "my tower.safetensors: CLIP weights of a file, copied as backbone.safetensors" in capsys.readouterr().err
    weights.unlink()
    again = save_pretrained(shared, tmp_path / "again")
    shutil.rmtree(shared)
    assert torch.equal(load(str(again), device="cpu").text_features(new), expected)
    assert str(weights.parent) not in "".join((again / file).read_text() for file in ("model.json", "README.md"))
    with pytest.raises(FileNotFoundError, match=r"my tower\.safetensors: no such file; .* needs these CLIP weights"):
        save_pretrained(other, tmp_path / "gone")
    description.write_text(json.dumps({**json.loads(description.read_text()), "backbone": "local-dir:/home/me/clip"}))
    with pytest.raises(ValueError, match=r"its CLIP is local-dir:/home/me/clip, a folder of this machine"):
        save_pretrained(other, tmp_path / "gone")
    assert not (tmp_path / "gone").exists()


def test_a_repository_is_loaded_from_the_clients_cache(run, tmp_path, monkeypatch):
    repo = tmp_path / "models--lab--video"
    snapshot = repo / "snapshots" / ("a" * 40)
    save_pretrained(run, snapshot)
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text("a" * 40)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    video = run.parent / "1.mp4"
    scores = load(str(run), device="cpu").classify_video(video)
    assert load("lab/video", device="cpu").classify_video(video) == scores
    assert load("lab/video", device="cpu").classify_video(video) == scores
    with pytest.raises(HubError, match="lab/other: no such folder here, and it could not be fetched") as error:
        load("lab/other")
    assert "\n" not in str(error.value)
    with pytest.raises(HubError, match="lab/video: could not be pushed") as error:
        push_to_hub(run, "lab/video")
    assert "\n" not in str(error.value)


def test_a_push_is_one_commit_of_the_whole_folder(run, monkeypatch):
    calls = []

    class Api:
        def create_repo(self, repo, **options):
            calls.append((repo, options))
            return f"https://huggingface.co/{repo}"

        def upload_folder(self, *, repo_id, folder_path, commit_message):
            calls.append((repo_id, sorted(path.name for path in folder_path.iterdir())))
            assert 'mote.load("lab/video")' in (folder_path / "README.md").read_text()

    monkeypatch.setattr(huggingface_hub, "HfApi", Api)
    assert push(str(run), "lab/video", private=True) == "https://huggingface.co/lab/video"
    files = ["README.md", "config.yaml", "evaluations", "model.json", "model.safetensors"]
    assert calls == [("lab/video", {"private": True, "exist_ok": True}), ("lab/video", files)]


def test_mistakes_are_one_line(run, tmp_path, monkeypatch):
    (tmp_path / "lab" / "video").mkdir(parents=True)
    (tmp_path / "lab" / "video" / "file").touch()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"lab/video: a folder of this name is here; write \./lab/video"):
        push(str(run), "lab/video")
    with pytest.raises(FileExistsError, match="not empty"):
        push(str(run), "./lab/video")
    with pytest.raises(FileNotFoundError, match="nowhere: no such run"):
        push("nowhere", "./new")
    assert not (tmp_path / "new").exists()
    assert is_repo_id("lab/video-b16.v2") and hub.is_repo_id("runs/a")
    assert not any(map(is_repo_id, ("ViT-B/16", "tiny", "./lab/video", "/a/b", "a/b/c", "hf-hub:a/b")))

"""Exported files against the model: in a fresh process without this package, on real clips, and refused when wrong."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import zipfile
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from oracles import mote_reference
from safetensors import safe_open

from mote import load
from mote.datasets.decoding.encode import write_video
from mote.datasets.lists.folders import search
from mote.datasets.lists.manifest import Record
from mote.datasets.synthetic.clips import render_clip
from mote.datasets.video import VideoDataset
from mote.inference.classifier import VideoClassifier
from mote.inference.export import ExportError, contract, export
from mote.inference.loading import load_video
from mote.models.checkpoints import build_visual, save_model
from mote.models.temporal import TemporalHead
from mote.models.tiny import TINY_WEIGHTS
from mote.models.video_clip import VideoCLIP

LABELS = ["red star", "blue ball", "green ring"]
TUNED = ["red star moving left", "red star moving right", "blue arrow growing"]

# What stands before every reader: this package and what it is built on are hidden, as if they were not installed.
BLOCK = """
import json, sys
class Hide:
    def __init__(self, finder):
        self.finder = finder
    def __getattr__(self, name):
        return getattr(self.finder, name)
    def find_spec(self, name, path=None, target=None):
        return None if name.split(".")[0] in {blocked} else self.finder.find_spec(name, path, target)
sys.meta_path[:] = [Hide(finder) for finder in sys.meta_path]
import importlib.util
assert not any(importlib.util.find_spec(name) for name in {blocked})
import numpy
data = numpy.load(sys.argv[2])
"""
READERS = {
    ".pt2": """
import torch
torch.set_num_threads(1)
note = {"mote": ""}
program = torch.export.load(sys.argv[1], extra_files=note)
logits = program.module()(*[torch.from_numpy(data[name]) for name in data]).numpy()
note = note["mote"]
""",
    ".onnx": """
import onnxruntime
session = onnxruntime.InferenceSession(sys.argv[1])
(logits,) = session.run(["logits"], dict(data))
note = session.get_modelmeta().custom_metadata_map["mote"]
""",
}
PROJECT = {"mote", "open_clip", "timm", "einops", "jaxtyping", "safetensors", "accelerate", "torchvision", "peft"}


def on_cpu(model: str | Path):
    return load_video(str(model), device="cpu")


def elsewhere(file: Path, tmp_path: Path, **inputs: torch.Tensor) -> tuple[torch.Tensor, dict]:
    """Logits and contract of an exported file, from a process that can import torch or onnxruntime only."""
    blocked = PROJECT | ({"torch", "onnx", "onnxscript"} if file.suffix == ".onnx" else {"onnx", "onnxruntime"})
    np.savez(tmp_path / "in.npz", **{name: tensor.numpy() for name, tensor in inputs.items()})
    code = BLOCK.replace("{blocked}", repr(blocked)) + READERS[file.suffix]
    code += "numpy.save(sys.argv[3], logits); print(json.dumps(json.loads(note)))"
    arguments = [sys.executable, "-W", "error", "-c", code, file, tmp_path / "in.npz", tmp_path / "out.npy"]
    done = subprocess.run(arguments, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    return torch.from_numpy(np.load(tmp_path / "out.npy")), json.loads(done.stdout)


def real_frames(model: VideoClassifier, folder: Path) -> torch.Tensor:
    records = [Record(path, 0) for path in search(folder).files]
    dataset = VideoDataset(records, num_frames=model.frames, size=model.size, train=False, sampling=model.sampling)
    return torch.stack([dataset.frames(0, i)[0] for i in range(len(records))])  # (N, T, 3, S, S)


def tuned_folder(folder: Path, **options) -> Path:
    """A model folder: tiny CLIP with a random temporal head that changes the logits, tuned on TUNED."""
    plain = load("tiny", device="cpu")
    torch.manual_seed(1)
    sizes = {"num_layers": 2, "num_experts": 3, "num_heads": 2, **options}
    tower, head = plain.model.visual, TemporalHead(128, **sizes) if sizes["num_layers"] else None
    model = VideoCLIP(tower, plain.model.logit_scale, head, embed_dim=128, mean=(0.5,) * 3, std=(0.25,) * 3)
    for parameter in model.temporal.parameters() if model.temporal else ():
        parameter.data.mul_(3)
    meta = {"backbone": "tiny", "pretrained": None, "classes": TUNED, "templates": plain.templates, "seed": 0}
    meta |= {"frames": 4, "size": 64, "sampling": "segment", "stride": 4, "difference": 0}
    save_model(folder, model, meta, {"tuned_text": plain.text_features(TUNED)})
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tuned_folder(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def video(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("videos") / "clip.mp4"
    write_video(path, render_clip(np.random.default_rng(0), "red star", "moving left", 12))
    return path


def noise(model: VideoClassifier, num: int = 3) -> torch.Tensor:
    shape = (num, model.frames, 3, model.size, model.size)
    return torch.from_numpy(np.random.default_rng(5).integers(0, 256, size=shape, dtype=np.uint8))


def expected(model: VideoClassifier, frames: torch.Tensor, labels: list[str], **options) -> torch.Tensor:
    return model.scorer(labels, **options)({"frames": frames[:, None]})[:, 0]


def assert_no_places(file: Path, *others: Path):
    """No path of this machine stands in the file, nor in what is packed in it: the source of traced lines, a model."""
    packed = zipfile.is_zipfile(file)
    with zipfile.ZipFile(file) if packed else nullcontext() as archive:
        parts = {name: archive.read(name) for name in archive.namelist()} if packed else {file.name: file.read_bytes()}
    root = Path(__file__).resolve().parents[2]
    for place in (root, Path(torch.__file__).parents[2], Path(sys.prefix), Path.home(), file.parent, *others):
        for name, content in parts.items():
            assert f"{place}/".encode() not in content and place.as_posix() not in name, (place, name)


def test_an_export_of_a_local_clip_names_its_file_and_no_folder(folder, tmp_path, capsys):
    mine = tmp_path / "mine" / "my tower.safetensors"
    mine.parent.mkdir()
    shutil.copy(TINY_WEIGHTS, mine)
    run = shutil.copytree(folder, tmp_path / "run")
    description = json.loads((run / "model.json").read_text())
    (run / "model.json").write_text(json.dumps({**description, "pretrained": str(mine)}))
    (tmp_path / "out").mkdir()
    file = tmp_path / "out" / "model.safetensors"
    export(on_cpu(run), file, class_names=LABELS)
    assert "other names than its own need the CLIP weights my tower.safetensors beside it" in capsys.readouterr().err
    assert_no_places(file, mine.parent, run, tmp_path)
    alone = load(str(file), device="cpu")
    with pytest.raises(FileNotFoundError, match=r"out/my tower\.safetensors: no such checkpoint file"):
        alone.text_features(["green cross"])
    shutil.copy(mine, file.parent)
    expected_text = load(str(run), device="cpu").text_features(["green cross"])
    assert torch.equal(load(str(file), device="cpu").text_features(["green cross"]), expected_text)


@pytest.fixture(scope="module")
def program(folder, tmp_path_factory) -> Path:
    """The graph that the tests share, as tracing takes most of their time: class features are an input of it."""
    file = tmp_path_factory.mktemp("program") / "model.pt2"
    export(on_cpu(folder), file, text_input=True)
    return file


@pytest.mark.slow
def test_real_clips_get_the_same_logits_in_a_process_without_this_package(folder, program, real_data, tmp_path):
    model = on_cpu(folder)
    frames, text = real_frames(model, real_data / "hmdb51_5clips"), model.text_features(LABELS)
    wanted = expected(model, frames, LABELS)
    assert (wanted - expected(model, frames, LABELS, modulation=False)).abs().max() > 0.1  # so the gate is in it
    found, note = elsewhere(program, tmp_path, frames=frames, text=text)
    torch.testing.assert_close(found, wanted, atol=1e-4, rtol=0)
    assert note["labels"] is None and note["modulation"] == {"k": 5, "gamma": 0.05}
    assert note["sampling"]["frames"] == 4 and note["resize"]["size"] == 64
    assert note["source"] == folder.name
    assert_no_places(program, folder.parent)


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".pt2", ".onnx"])
def test_a_graph_that_knows_its_classes_is_checked_on_clips_and_stands_alone(folder, real_data, tmp_path, suffix):
    clips = real_data / "hmdb51_5clips"
    file = tmp_path / f"model{suffix}"
    assert export(on_cpu(folder), file, class_names=LABELS, check=str(clips)) <= 1e-4
    model = on_cpu(folder)
    frames = real_frames(model, clips)
    found, note = elsewhere(file, tmp_path, frames=frames)
    torch.testing.assert_close(found, expected(model, frames, LABELS), atol=1e-4, rtol=0)
    assert note["labels"] == LABELS and note["modulation"] == {"k": 5, "gamma": 0.05}
    assert_no_places(file, folder.parent)


def check_any_number(model: VideoClassifier, run) -> None:
    """`run` from frames and class features to logits, for one clip and more, one class and more."""
    for labels, num in ((TUNED, 1), ([*LABELS, *TUNED], 4), (LABELS[:1], 2)):
        frames, text = noise(model, num), model.text_features(labels)
        torch.testing.assert_close(run(frames, text), expected(model, frames, labels), atol=1e-4, rtol=0)


@pytest.mark.slow
def test_class_features_as_an_input_take_any_number_of_clips_and_classes(folder, program):
    check_any_number(on_cpu(folder), torch.export.load(program).module())


@pytest.mark.slow
def test_class_features_as_an_input_of_onnx_take_any_number_too(folder, tmp_path):
    export(on_cpu(folder), tmp_path / "model.onnx", text_input=True)
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")

    def run(frames, text):
        return torch.from_numpy(session.run(["logits"], {"frames": frames.numpy(), "text": text.numpy()})[0])

    check_any_number(on_cpu(folder), run)


@pytest.mark.slow
def test_a_safetensors_file_loads_again_in_a_fresh_process_with_its_labels(folder, video, tmp_path):
    file = tmp_path / "model.safetensors"
    assert export(on_cpu(folder), file, class_names=LABELS, check=str(video)) == 0
    code = "import json, sys, mote; print(json.dumps(mote.load(sys.argv[1], device='cpu').classify_video(sys.argv[2])))"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code, file, video], capture_output=True, text=True, check=True, env=environment
    )
    scores = json.loads(done.stdout)
    assert scores == pytest.approx(load(str(folder), device="cpu").classify_video(video, LABELS), abs=1e-6)
    with safe_open(file, "pt") as opened:
        note = json.loads(opened.metadata()["mote"])
        assert opened.get_tensor("temporal.blocks.0.mlp.up_weight").shape[0] == 1  # experts are folded
    assert note["labels"] == LABELS and note["tuned_classes"] == TUNED
    again = load(str(file), device="cpu")
    assert again.classify_video(video, TUNED) == load(str(folder), device="cpu").classify_video(video, TUNED)
    assert load(str(file), templates=None).chosen(None) == LABELS


def test_other_templates_are_not_answered_with_stored_features(folder, tmp_path):
    export(on_cpu(folder), tmp_path / "model.safetensors", class_names=LABELS)
    (tmp_path / "templates.txt").write_text("{}\n")
    again = load(str(tmp_path / "model.safetensors"), templates=tmp_path / "templates.txt", device="cpu")
    plain = load(str(folder), templates=tmp_path / "templates.txt", device="cpu")
    assert torch.equal(again.text_features(LABELS), plain.text_features(LABELS))


@pytest.mark.parametrize("modulation", [True, False, None])
@pytest.mark.parametrize("labels", [None, LABELS])
def test_modulation_is_as_asked_for_else_as_in_prediction(folder, tmp_path, modulation, labels):
    model = load(str(folder), device="cpu")
    frames, names = noise(model), labels or TUNED
    export(
        load_video(str(folder), device="cpu"), tmp_path / "model.safetensors", class_names=labels, modulation=modulation
    )
    found = expected(load(str(tmp_path / "model.safetensors"), device="cpu"), frames, names)
    torch.testing.assert_close(found, expected(model, frames, names, modulation=modulation), atol=1e-4, rtol=0)


def test_modulation_is_refused_where_there_is_nothing_to_compare_with(folder):
    model = load(str(folder), device="cpu")
    model.tuned_text = None
    assert model.gate_text(LABELS) is None and model.gate_text(LABELS, False) is None
    with pytest.raises(ValueError, match="stores no features"):
        model.scorer(LABELS, modulation=True)
    assert load("tiny", device="cpu").gate_text(LABELS, True) is None  # no temporal branch to damp


@pytest.mark.slow
def test_modulation_can_be_left_out_of_a_graph_that_knows_its_classes(folder, video, tmp_path):
    file = tmp_path / "model.pt2"
    assert export(on_cpu(folder), file, class_names=LABELS, modulation=False, check=str(video)) <= 1e-4
    model = load(str(folder), device="cpu")
    note = {"mote": ""}
    found = torch.export.load(tmp_path / "model.pt2", extra_files=note).module()(noise(model))
    torch.testing.assert_close(found, expected(model, noise(model), LABELS, modulation=False), atol=1e-4, rtol=0)
    assert json.loads(note["mote"])["modulation"] is None and json.loads(note["mote"])["labels"] == LABELS


@pytest.mark.slow
def test_an_authors_checkpoint_is_exported_with_its_own_merge(tmp_path):
    checkpoint = mote_reference.random_checkpoint(torch.Generator().manual_seed(3), embed=96, width=192)
    torch.save(checkpoint, tmp_path / "MoTE.pt")
    assert export(load_video(str(tmp_path / "MoTE.pt"), device="cpu"), tmp_path / "model.safetensors") == 0
    assert export(load_video(str(tmp_path / "MoTE.pt"), device="cpu"), tmp_path / "model.pt2") <= 1e-4
    frames = noise(load(str(tmp_path / "MoTE.pt"), device="cpu"), 2)
    found = torch.export.load(tmp_path / "model.pt2").module()(frames)
    text = checkpoint["fusion_model_state_dict"]["spe_cls_feature"].double().numpy()
    np.testing.assert_allclose(found, mote_reference.logits(checkpoint, frames.numpy(), text, False), atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("timm_name", ["test_vit", "test_convnext"])
def test_towers_of_timm_are_exported(folder, tmp_path, timm_name):
    vision = {"timm_model_name": timm_name, "timm_model_pretrained": False, "timm_proj": "linear"}
    vision["timm_pool"] = "token" if "vit" in timm_name else "avg"
    architecture = {"embed_dim": 24, "vision_cfg": {**vision, "image_size": 160}, "quick_gelu": False}
    torch.manual_seed(0)
    visual, head = build_visual(architecture), TemporalHead(24, num_layers=1, num_heads=4, num_experts=2)
    model = VideoCLIP(visual, torch.tensor(2.0), head, embed_dim=24, mean=(0.5,) * 3, std=(0.2,) * 3)
    meta = {"backbone": None, "pretrained": None, "architecture": architecture, "classes": TUNED, "templates": ["{}"]}
    meta |= {"frames": 3, "size": 160, "seed": 0}
    save_model(tmp_path / "timm", model, meta, {"tuned_text": torch.eye(3, 24)})
    for suffix in (".pt2", ".onnx"):
        assert export(load_video(str(tmp_path / "timm"), device="cpu"), tmp_path / f"model{suffix}") <= 1e-4


@pytest.mark.slow
def test_plain_clip_and_difference_pictures(tmp_path, video):
    assert export(on_cpu("tiny"), tmp_path / "tiny.onnx", "onnx", class_names=LABELS, check=str(video)) <= 1e-4
    assert onnx.load(tmp_path / "tiny.onnx").graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.UINT8
    model = load("tiny", device="cpu")
    model.difference = 2
    note = contract(model, LABELS, model.text_features(LABELS), modulation=False)
    assert note["difference"]["frames"] == 2 and note["modulation"] is None


def test_a_file_with_other_logits_is_not_kept(folder, tmp_path, monkeypatch):
    out = tmp_path / "model.safetensors"
    out.write_text("older")
    module = sys.modules[export.__module__]
    right = module.save_model

    def wrong(path, model, meta, tensors, notes):
        right(path, model, meta, {**tensors, "text": tensors["text"].roll(1, 0)}, notes)

    monkeypatch.setattr(module, "save_model", wrong)
    with pytest.raises(ExportError, match=r"not written: its logits differ .* more than 0\.0001"):
        export(on_cpu(folder), out, class_names=LABELS)
    assert [p.name for p in tmp_path.iterdir()] == ["model.safetensors"] and out.read_text() == "older"


def test_mistakes_are_one_line(folder, tmp_path, monkeypatch):
    for arguments, message in (
        ({"out": tmp_path / "model.bin"}, "expected one of safetensors, torch-export, onnx"),
        ({"out": tmp_path / "model.pt2", "format": "onnx"}, r"ends in \.onnx"),
        ({"out": tmp_path / "model.pt2", "class_names": LABELS, "text_input": True}, "one or the other"),
        ({"out": tmp_path / "model.pt2", "check": str(tmp_path)}, "no video in this folder"),
    ):
        with pytest.raises((ValueError, FileNotFoundError), match=message):
            export(on_cpu(folder), **arguments)
    with pytest.raises(ValueError, match="no classes of its own"):
        export(on_cpu("tiny"), tmp_path / "model.pt2")
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "onnxscript" else found(name))
    with pytest.raises(ValueError, match="onnx export needs onnxscript: pip install 'mote-video\\[onnx\\]'"):
        export(on_cpu(folder), tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())

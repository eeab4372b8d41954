"""What becomes of whole runs elsewhere: one with adapters, and one that `mote compact` made smaller."""

import json
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from safetensors.torch import load_file, save_file

from mote import load
from mote.cli import main
from mote.config import load as load_config
from mote.datasets.decoding.encode import write_video
from mote.datasets.synthetic.clips import render_clip
from mote.experiments.assemble import assemble
from mote.parallel.accelerator import make_accelerator
from mote.training.checkpoint import load_checkpoint

pytestmark = pytest.mark.slow  # whole programs whose parts the other tests cover

CLASSES = ("red star", "blue arrow", "green ball")
OTHERS = ["yellow ring", "pink heart"]


def mote(*arguments) -> int:
    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments])
    return stop.value.code


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("clips")
    for i in range(4):
        write_video(folder / f"{i}.mp4", render_clip(np.random.default_rng(i), CLASSES[i % 3], "moving left", 6))
    (folder / "list.txt").write_text("".join(f"{i}.mp4 {i % 3}\n" for i in range(4)))
    (folder / "classes.txt").write_text("\n".join(CLASSES) + "\n")
    return folder


def train(clips: Path, name: str, *more: str) -> Path:
    quick = ["model.layers=1", "model.experts=2", "optim.epochs=2", "optim.warmup_epochs=0", "optim.batch_size=2"]
    quick += [
        "data.workers=0",
        "data.frames=2",
        "optim.lr=3e-3",
        "run.cpu=true",
        "evaluation.page=false",
        f"run.out={clips / name}",
    ]
    where = [f"data.train={clips / 'list.txt'}", f"data.classes={clips / 'classes.txt'}"]
    where.append(f"evaluation.manifest={clips / 'list.txt'}")
    assert mote("train", *quick, *where, *more) == 0
    return clips / name


@pytest.fixture(scope="module")
def adapted(clips) -> Path:
    """Adapters in both towers."""
    return train(clips, "adapted", "tuning.vision=lora", "tuning.text=lora", "tuning.rank=4")


@pytest.fixture(scope="module")
def compacted(clips) -> tuple[Path, Path]:
    """A run with a dead unit in every expert, a dead attention head and a dead unit of the tower; and what is left."""
    run = train(clips, "sparse", "sparsity.strength=1e-6", "sparsity.groups=[units,heads]")
    file = run / "best" / "model.safetensors"
    state = load_file(file)
    for name, tensor in state.items():
        if name.endswith(("mlp.up_weight", "mlp.up_bias")):
            tensor[:, :5] = 0
        elif name.endswith("mlp.down_weight"):
            tensor[:, :, :5] = 0
        elif name == "visual.transformer.resblocks.0.mlp.c_fc.weight" or name.endswith("resblocks.0.mlp.c_fc.bias"):
            tensor[:7] = 0
        elif name == "visual.transformer.resblocks.0.mlp.c_proj.weight":
            tensor[:, :7] = 0
    save_file(state, file)
    assert mote("compact", run, "--out", clips / "small") == 0
    return run, clips / "small"


def clip_frames(model, clips: Path) -> torch.Tensor:
    from mote.datasets.lists.manifest import Record
    from mote.datasets.video import VideoDataset

    records = [Record(clips / f"{i}.mp4", 0) for i in range(4)]
    data = VideoDataset(records, num_frames=model.frames, size=model.size, train=False)
    return torch.stack([data.frames(0, i)[0] for i in range(4)])  # (4, T, 3, S, S)


def run_file(file: Path, frames: torch.Tensor) -> torch.Tensor:
    if file.suffix == ".pt2":
        return torch.export.load(file).module()(frames)
    if file.suffix == ".onnx":
        return torch.from_numpy(onnxruntime.InferenceSession(file).run(["logits"], {"frames": frames.numpy()})[0])
    model = load(str(file), device="cpu")
    return model.scorer(model.chosen(None))({"frames": frames[:, None]})[:, 0]


@pytest.mark.parametrize("suffix", [".safetensors", ".pt2", pytest.param(".onnx", marks=pytest.mark.slow)])
def test_the_file_of_a_run_with_adapters_gives_the_logits_of_its_checkpoint(adapted, clips, tmp_path, suffix):
    """Against the training state, in which the adapters still stand beside the towers' weights."""
    assert mote("export", adapted, "--out", tmp_path / f"a{suffix}", "--check", clips) == 0
    frames = clip_frames(load(str(adapted), device="cpu"), clips)
    experiment = assemble(load_config([adapted / "config.yaml"]), make_accelerator(cpu=True))
    assert load_checkpoint(adapted / "last", experiment.task) is not None
    assert any("lora" in name for name, _ in experiment.model.named_parameters())
    experiment.task.eval()
    plain = assemble(load_config([adapted / "config.yaml"]), make_accelerator(cpu=True))  # adapters that do nothing yet
    with torch.no_grad():
        video = experiment.model.head(experiment.model.encode_frames(frames))
        expected = experiment.model.classify(video, experiment.class_text())
        before = plain.model.classify(plain.model.head(plain.model.encode_frames(frames)), plain.class_text())
    assert (expected - before).abs().max() > 0.01
    torch.testing.assert_close(run_file(tmp_path / f"a{suffix}", frames), expected, atol=1e-4, rtol=0)


def test_a_shared_run_with_adapters_brings_its_text_tower(adapted, clips, tmp_path):
    assert mote("push", adapted, tmp_path / "shared") == 0
    ours, theirs = load(str(adapted), device="cpu"), load(str(tmp_path / "shared"), device="cpu")
    assert torch.equal(ours.text_features(OTHERS), theirs.text_features(OTHERS))
    assert (theirs.text_features(OTHERS) - load("tiny", device="cpu").text_features(OTHERS)).abs().max() > 1e-3
    assert ours.classify_video(clips / "0.mp4", OTHERS) == theirs.classify_video(clips / "0.mp4", OTHERS)


def test_one_file_without_the_tuned_text_tower_says_so_for_other_labels(adapted, clips, tmp_path, capsys):
    file = tmp_path / "one.safetensors"
    assert mote("export", adapted, "--out", file, "--labels", ",".join(OTHERS)) == 0
    names = load(str(file), device="cpu").classify_video(clips / "0.mp4")
    assert names == pytest.approx(load(str(adapted), device="cpu").classify_video(clips / "0.mp4", OTHERS), abs=1e-6)
    capsys.readouterr()
    assert mote("predict", file, clips / "0.mp4", "--labels", "blue ball,red ring") == 2
    assert "text.safetensors: not found" in capsys.readouterr().err


def test_a_compact_folder_is_evaluated_predicted_with_and_shared(compacted, clips, tmp_path):
    run, small = compacted
    sizes = [sum(t.numel() for t in load_file(f / "best" / "model.safetensors").values()) for f in compacted]
    assert sizes[1] < sizes[0]
    for folder, name in ((run, "dense"), (small, "compact")):
        assert mote("eval", folder, "--out", tmp_path / name) == 0
        labels = ("--labels", ",".join([*CLASSES, *OTHERS]))
        assert mote("predict", folder, clips / "0.mp4", *labels, "--json", tmp_path / f"{name}.json") == 0
    ours, theirs = (json.loads((tmp_path / name / "eval.json").read_text()) for name in ("compact", "dense"))
    assert ours["confusion_matrix"] == theirs["confusion_matrix"] and ours["scored"] == 4
    ours, theirs = (json.loads((tmp_path / f"{name}.json").read_text())["videos"][0]["scores"]
                    for name in ("compact", "dense"))  # fmt: skip
    assert ours == pytest.approx(theirs, abs=1e-5)
    assert mote("push", small, tmp_path / "shared") == 0
    assert load(str(tmp_path / "shared"), device="cpu").classify_video(clips / "0.mp4", [*CLASSES, *OTHERS]) == ours


@pytest.mark.parametrize(
    "suffix", [".safetensors", *(pytest.param(one, marks=pytest.mark.slow) for one in (".pt2", ".onnx"))]
)
def test_the_file_of_a_compact_folder_gives_the_logits_of_the_run(compacted, clips, tmp_path, suffix):
    run, small = compacted
    frames = clip_frames(load(str(small), device="cpu"), clips)
    dense = load(str(run), device="cpu")
    expected = dense.scorer(list(CLASSES))({"frames": frames[:, None]})[:, 0]
    assert mote("export", small, "--out", tmp_path / f"small{suffix}", "--check", clips) == 0
    torch.testing.assert_close(run_file(tmp_path / f"small{suffix}", frames), expected, atol=1e-4, rtol=0)


def test_a_run_of_images_is_refused_in_one_line(clips, tmp_path, capsys):
    pixels = np.random.default_rng(0).integers(0, 256, (8, 16, 16, 3), dtype=np.uint8)
    arrays = {f"{split}_{kind}": value for split in ("train", "test") for kind, value in
              (("images", pixels), ("labels", np.arange(8) % 2))}  # fmt: skip
    np.savez(tmp_path / "few.npz", **arrays)
    net = ["task=image", "image.net=lenet", "data.split=train", "data.workers=0", "optim.epochs=1", "run.cpu=true"]
    net += ["optim.batch_size=4", "optim.warmup_epochs=0", f"data.train={tmp_path / 'few.npz'}"]
    net += [f"evaluation.manifest={tmp_path / 'few.npz'}", "evaluation.split=test"]
    assert mote("train", *net, f"run.out={tmp_path / 'run'}") == 0
    assert "8 of 8 images scored" in capsys.readouterr().out
    for command in (("export", tmp_path / "run", "--out", tmp_path / "a.onnx"), ("push", tmp_path / "run", "./new")):
        assert mote(*command) == 2
        error = capsys.readouterr().err.strip()
        assert "holds a network for" in error and "\n" not in error
    assert not (tmp_path / "a.onnx").exists() and not Path("new").exists()

"""A start that is refused: one line, before the model is built wherever that is possible, and nothing left behind."""

import copy
import hashlib
from dataclasses import replace
from unittest.mock import MagicMock

import numpy as np
import pytest
import torch
from command_line import fails
from safetensors.torch import load_file

from mote.config import load
from mote.datasets.decoding.encode import write_video
from mote.datasets.synthetic.clips import render_clip
from mote.evaluation.views import evaluation_dataset
from mote.experiments import train, video
from mote.experiments.assemble import assemble
from mote.models import folders
from mote.parallel.accelerator import make_accelerator

CLASSES = ("red star moving left", "blue arrow growing")


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clips")
    for i in range(4):
        colour, shape, motion = CLASSES[i % 2].split(" ", 2)
        write_video(folder / f"{i}.mp4", render_clip(np.random.default_rng(i), f"{colour} {shape}", motion, 4))
    (folder / "list.txt").write_text("".join(f"{i}.mp4 {i % 2}\n" for i in range(4)))
    (folder / "classes.txt").write_text("\n".join(CLASSES) + "\n")
    return folder


def start(clips, out, *overrides: str) -> list[str]:
    where = [f"data.train={clips / 'list.txt'}", f"data.classes={clips / 'classes.txt'}", f"run.out={out}"]
    small = ["model.layers=1", "data.frames=2", "data.workers=0", "optim.warmup_epochs=0", "optim.batch_size=2"]
    return ["train", *where, *small, "run.cpu=true", *overrides]


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("optim.betas=[0.9, 1]", "optim.betas.1: "),
        ("data.crop_scale=[1, 0.5]", "data.crop_scale: "),
        ("evaluation.name=../x", "evaluation.name: "),
        ("optim.warmup_epochs=30", "optim.warmup_epochs=30 must be less than optim.epochs=30"),
        ("optim.accumulation=4", "optim.batch_size=2 must be a multiple of optim.accumulation=4"),
        ("run.out=''", "run.out: is empty"),
        ("evaluation.manifest=nowhere.txt", "nowhere.txt"),
        ("evaluation.unknown=nowhere", "nowhere"),
        ("data.frames=78", "data.frames=78: "),
    ],
)
def test_a_mistake_is_found_before_the_model_is_built_and_leaves_nothing(
    clips, tmp_path, capsys, monkeypatch, override, said
):
    monkeypatch.setattr(folders, "towers", lambda *_: pytest.fail("the model was built"))
    more = [f"evaluation.manifest={clips / 'list.txt'}"] if "unknown" in override else []
    assert said in fails(capsys, *start(clips, tmp_path / "run", *more, override))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("override", "said"),
    [
        (
            "data.size=100",
            "data.size=100: this network cannot take images of 100 x 100 pixels: it is no multiple of 16",
        ),
        ("data.size=8", "data.size=8: "),
        ("model.heads=7", "model.heads=7: expected a divisor of the width"),
        ("optim.batch_size=6", "4 training clips do not fill one batch of 6; lower optim.batch_size"),
        ("sparsity={strength: 0.1, layers: {'nothing*': 1}}", "match no layer with units"),
        ("tuning={text: lora, text_prompts: 99}", "tuning.text_prompts=99: there are 28 templates"),
    ],
)
def test_what_does_not_fit_the_model_leaves_nothing(clips, tmp_path, capsys, override, said):
    assert said in fails(capsys, *start(clips, tmp_path / "run", override))
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_a_run_is_refused_at_once_and_left_as_it_is(clips, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(folders, "towers", lambda *_: pytest.fail("the model was built"))
    (tmp_path / "file").write_text("mine")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "mine.txt").write_text("mine")
    (tmp_path / "run" / ".mote-mine").write_text("mine")
    for out, said in (("file", "is a file"), ("file/run", "is a file"), ("run", "already holds .mote-mine, mine.txt")):
        assert said in fails(capsys, *start(clips, tmp_path / out))
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == [".mote-mine", "mine.txt"]


def test_a_start_that_fails_before_its_first_step_leaves_nothing(clips, tmp_path, capsys, monkeypatch):
    def fail(*_arguments, **_options):
        raise ValueError("no account")

    monkeypatch.setattr("mote.training.run.Unreadable.of", fail)
    assert "no account" in fails(capsys, *start(clips, tmp_path / "run"))
    assert list(tmp_path.iterdir()) == []


def test_the_best_weights_and_their_metrics_change_together_or_not_at_all(tmp_path, monkeypatch):
    (tmp_path / "evaluations").mkdir()
    config = load([], ["evaluation.manifest=a.txt", "run.select=top1"])

    def save(text: str) -> None:
        def write(_task, folder, _selected):
            folder.mkdir()
            (folder / "model.safetensors").write_text(text)

        (tmp_path / "evaluations" / "eval.json").write_text(text)
        experiment = MagicMock()
        experiment.save.side_effect = write
        train._save_best(config, experiment, tmp_path, torch.nn.Identity(), {"top1": 1.0})

    def kept() -> list[str]:
        return [(tmp_path / name).read_text() for name in ("best/model.safetensors", "metrics.json")]

    save("old")
    assert kept() == ["old", "old"]

    def full(*_arguments):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(train, "_keep_metrics", full)
        with pytest.raises(OSError, match=r"best: cannot be written: No space left on device; what was there before"):
            save("new")
    assert kept() == ["old", "old"]
    save("new")
    assert kept() == ["new", "new"] and sorted(path.name for path in tmp_path.iterdir()) == [
        "best", "evaluations", "metrics.json",
    ]  # fmt: skip


@pytest.fixture(scope="module")
def experiment(clips):
    """What is trained, as it starts; modulation, a template of its own and other pixels are asked for."""
    (clips / "templates.txt").write_text("a photo of a {}\n")
    where = [f"evaluation.manifest={clips / 'list.txt'}", "evaluation.modulation=true", "evaluation.modulation_k=1"]
    where += [f"data.templates={clips / 'templates.txt'}", "data.resize=squash"]
    config = load([], start(clips, "nowhere", *where)[1:])
    return assemble(config, make_accelerator("fp32", cpu=True))


def test_other_weights_are_held_whole(experiment):
    """As under FSDP2, where what is saved and scored is a copy of what is trained."""
    other = copy.deepcopy(experiment.task)
    for weights in other.parameters():
        torch.nn.init.constant_(weights, 0.5)
    held = experiment.holding(other)
    assert held.task is other and held.model is other.model is not experiment.model
    assert all((weights == 0.5).all() for weights in held.classifier().model.visual.parameters())


def test_the_classifier_in_training_gates_as_the_configuration_says(experiment):
    assert experiment.classifier().modulation is True and experiment.classifier().modulation_gate.k == 1


@pytest.mark.parametrize("page", [False, True])
def test_a_page_is_drawn_where_it_is_asked_for(experiment, tmp_path, page):
    experiment.evaluate(experiment.task, make_accelerator("fp32", cpu=True), tmp_path, page=page)
    assert (tmp_path / "eval.json").is_file() and (tmp_path / "eval" / "index.html").is_file() == page


def test_the_classifier_in_training_has_the_templates_of_the_training(experiment):
    assert experiment.classifier().templates == ["a photo of a {}"]


def test_a_text_tower_of_its_own_is_saved(experiment, tmp_path):
    tuned = replace(experiment, own_text=True)
    tuned.save(tuned.task, tmp_path / "own", "last")
    experiment.save(experiment.task, tmp_path / "original", "last")
    weights, now = load_file(tmp_path / "own" / "text.safetensors"), tuned.text_tower().state_dict()
    assert weights.keys() <= now.keys() and all(torch.equal(weights[name], now[name]) for name in weights)
    assert not (tmp_path / "original" / "text.safetensors").exists()


def test_features_are_cached_of_frames_as_the_model_takes_them(experiment, monkeypatch):
    seen = []

    def made(*arguments, **options):
        seen.append(evaluation_dataset(*arguments, **options))
        return seen[-1]

    monkeypatch.setattr(video, "evaluation_dataset", made)
    data = experiment.config.data.model_copy(update={"cache_features": True})
    replace(experiment, config=experiment.config.model_copy(update={"data": data})).loader()
    assert [views.preprocessing for views in seen] == [experiment.model.preprocessing]
    assert experiment.model.preprocessing.resize == "squash"


def test_what_auto_precision_is_here_is_kept_in_the_configuration(monkeypatch):
    asked = []
    monkeypatch.setattr(train, "training_precision", lambda name, *, cpu: asked.append((name, cpu)) or "bf16")
    config = load([], ["optim.precision=auto", "run.cpu=true", "optim.lr=0.5"])
    found = train._with_precision(config)
    assert asked == [("auto", True)] and found.optim.precision == "bf16" and found.optim.lr == 0.5


def test_a_resumed_run_must_have_the_classes_templates_and_videos_of_the_first(experiment, clips):
    bound = train._bound(experiment.config, experiment)
    lines = "".join(f"{clips / f'{i}.mp4'} {i % 2}\n" for i in range(4))
    assert bound["classes"] == list(CLASSES) and bound["templates"] == ["a photo of a {}"]
    assert bound["records"] == (hashlib.sha256(lines.encode()).hexdigest(), 4)
    assert bound["settings"]["data.frames"] == 2

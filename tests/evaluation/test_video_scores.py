"""The same scores, bit for bit, however a run is started, and nothing decoded twice."""

import copy
import csv
import dataclasses
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from mote import load
from mote.cli import main
from mote.config import Config, validate
from mote.datasets import video
from mote.datasets.cache.feature_cache import default_folder, usage_line
from mote.datasets.decoding.decode import open_video, read_frames
from mote.datasets.decoding.encode import write_video
from mote.datasets.decoding.errors import DecodeError
from mote.datasets.lists.manifest import Record
from mote.datasets.sampling import clip_indices
from mote.datasets.synthetic.clips import render_clip
from mote.evaluation import video_scores
from mote.evaluation.video_scores import BLOCK_VIEWS, _note_precision, score_videos
from mote.evaluation.views import evaluation_dataset
from mote.inference.classifier import VideoClassifier
from mote.inference.features import cache_folder, open_cache
from mote.metrics.scores import Scores
from mote.metrics.scoring import fuse_views
from mote.models.clip import encode_classes
from mote.models.temporal import TemporalHead
from mote.models.video_clip import VideoCLIP
from mote.models.view_scorer import CALL
from mote.parallel.accelerator import make_accelerator
from mote.parallel.cores import all_cores
from mote.parallel.precision import has_bf16

CLASSES = ["red star moving left", "blue arrow growing", "green ball bouncing"]
NUM_CLIPS = 25  # 3 views each: two blocks, the second shorter
OTHER_CLASSES = ["yellow ring", "pink heart", "green ball", "red star"]


@pytest.fixture(scope="module")
def records(tmp_path_factory) -> list[Record]:
    """Real clips of a few lengths."""
    folder = tmp_path_factory.mktemp("clips")
    for i in range(NUM_CLIPS):
        colour, shape, motion = CLASSES[i % 3].split(" ", 2)
        frames = render_clip(np.random.default_rng(i), f"{colour} {shape}", motion, 4 + i % 5)
        write_video(folder / f"{i}.mp4", frames)
    return [Record(folder / f"{i}.mp4", i % 3) for i in range(NUM_CLIPS)]


@pytest.fixture(scope="module")
def classifier() -> VideoClassifier:
    """Tiny CLIP with a random temporal head of two layers and three experts, folded."""
    plain = load("tiny", device="cpu")
    torch.manual_seed(0)
    options = {"embed_dim": 128, "mean": [0.4] * 3, "std": [0.3] * 3}
    head = TemporalHead(128, num_layers=2, num_heads=2, num_experts=3)
    model = VideoCLIP(plain.model.visual, plain.model.logit_scale, head, **options).eval().requires_grad_(False).fold()
    text = torch.nn.functional.normalize(torch.randn(3, 128), dim=-1)
    return VideoClassifier(model, plain.towers, classes=CLASSES, tuned_text=text, frames=4, size=64)


@pytest.fixture
def decoded(monkeypatch) -> list[Path]:
    """Every file that is decoded in this process."""
    opened: list[Path] = []

    def spy(path, *arguments, **options):
        opened.append(path)
        return read_frames(path, *arguments, **options)

    monkeypatch.setattr(video, "read_frames", spy)
    return opened


def config(cache: Path | None = None, workers: int = 0, **settings) -> Config:
    settings = {"crops": 3, "batch_size": 7, "cache": None if cache is None else str(cache), **settings}
    return validate(
        {
            "evaluation": settings,
            "data": {"workers": workers, "frames": 4, "decode_timeout": None},
            "run": {"cpu": True},
        }
    )


def scores(classifier: VideoClassifier, records: list[Record], labels: list[str] | None = None, **options) -> Scores:
    settings = config(**options)
    labels = labels or CLASSES
    return score_videos(classifier, records, labels, settings.evaluation, settings.data, make_accelerator(cpu=True))


def same(a: Scores, b: Scores) -> bool:
    return all(np.array_equal(getattr(a, name), getattr(b, name)) for name in ("label", "valid", "probabilities"))


def test_batches_and_workers_change_no_bit(classifier, records):
    first = scores(classifier, records)
    assert (first.valid.sum(), first.probabilities.shape) == (NUM_CLIPS, (NUM_CLIPS, 3)) and BLOCK_VIEWS // 3 < 25
    assert first.probabilities.std(axis=0).min() > 1e-3  # videos differ
    assert same(first, scores(classifier, records, batch_size=1))
    assert same(first, scores(classifier, records, batch_size=64, workers=2))


def test_tensors_of_all_processes_are_added_up(classifier, records, monkeypatch):
    """As if another process had scored nothing: what is added up is what this one found, every clip once."""
    added = []
    monkeypatch.setattr(video_scores, "add_up", lambda accelerator, tensors: added.append(tensors) or tensors)
    found = scores(classifier, records[:3])
    assert len(added) == 1 and found.valid.all()


def test_threads_change_no_bit(classifier, records):
    first = scores(classifier, records)
    try:
        torch.set_num_threads(3)
        assert same(first, scores(classifier, records))
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(1)


def test_the_work_is_done_on_the_threads_that_torch_had():
    try:
        torch.set_num_threads(2)
        with all_cores(torch.device("cpu")) as ordered_map:
            found = list(ordered_map(lambda i: (i, torch.get_num_threads()), range(50)))
        assert found == [(i, 1) for i in range(50)] and torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)


def test_files_are_decoded_pictures_encoded_and_blocks_put_through_the_head_once(classifier, records, decoded):
    """Three clips of four frames of videos of 4 to 8 frames share frames; the three crops of a square are one."""
    pictures: list[torch.Tensor] = []
    passes: list[int] = []
    hooks = [
        classifier.model.visual.register_forward_hook(lambda _, given, __: pictures.append(given[0])),
        classifier.model.temporal.register_forward_hook(lambda _, given, __: passes.append(len(given[0]))),
    ]
    few = records[:10]
    found = scores(classifier, few, clips=3)
    for hook in hooks:
        hook.remove()
    assert decoded == [record.path for record in few]
    assert passes == [CALL] * (8 + 4)  # 64 views are 7 videos of 9, whose 63 views are 8 calls; 27 more are 4
    assert len(pictures) == len(few)
    for shown, record in zip(pictures, few, strict=True):
        with open_video(record.path) as opened:
            length = opened.num_frames
        assert len(shown) == len(set(clip_indices(length, 4, 3).ravel().tolist()))
        assert len(torch.unique(shown, dim=0)) == len(shown)
    settings = config(clips=3)
    dataset = evaluation_dataset(few, settings.evaluation, settings.data, frames=4, size=64, difference=0)
    views = torch.stack([dataset[i]["frames"] for i in range(len(few))])
    slow = fuse_views(classifier.scorer(CLASSES)({"frames": views}))
    np.testing.assert_allclose(found.probabilities, slow.numpy(), atol=1e-6)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_cached_features_give_every_bit_and_decode_nothing(classifier, records, tmp_path, decoded, precision):
    direct = scores(classifier, records, precision=precision)
    assert len(decoded) == NUM_CLIPS
    cache = tmp_path / "cache"
    assert same(direct, scores(classifier, records, cache=cache, precision=precision))
    assert len(decoded) == 2 * NUM_CLIPS
    assert same(direct, scores(classifier, records, cache=cache, precision=precision, batch_size=64))
    other = scores(fresh(classifier), records, OTHER_CLASSES, cache=cache, precision=precision, modulation=True)
    assert len(decoded) == 2 * NUM_CLIPS
    assert same(other, scores(classifier, records, OTHER_CLASSES, precision=precision, modulation=True))
    assert f"features of {NUM_CLIPS + 1} videos, frames and class lists, 0.00015" in usage_line(cache)


def test_class_features_are_computed_once_and_come_back_to_the_bit(classifier, records, tmp_path, monkeypatch):
    encoded: list[list[str]] = []

    def spy(towers, names, templates, **options):
        encoded.append(names)
        return encode_classes(towers, names, templates, **options)

    monkeypatch.setattr("mote.inference.classifier.encode_classes", spy)
    direct = scores(fresh(classifier), records[:3], OTHER_CLASSES)
    for _ in range(2):
        assert same(direct, scores(fresh(classifier), records[:3], OTHER_CLASSES, cache=tmp_path / "cache"))
    assert encoded == [OTHER_CLASSES] * 2  # once without a cache, once with
    scores(fresh(classifier), records[:3], OTHER_CLASSES[::-1], cache=tmp_path / "cache")
    scores(fresh(classifier).with_templates(["a {}."]), records[:3], OTHER_CLASSES, cache=tmp_path / "cache")
    scores(fresh(classifier), records[:3], CLASSES, cache=tmp_path / "cache")  # those of tuning came with the model
    assert encoded[2:] == [OTHER_CLASSES[::-1], OTHER_CLASSES]


def fresh(classifier: VideoClassifier) -> VideoClassifier:
    """As loaded anew: no class features but those of tuning."""
    return dataclasses.replace(classifier, class_features={})


def test_another_head_or_prompt_decodes_nothing_another_tower_everything(classifier, records, tmp_path, decoded):
    cache = tmp_path / "cache"
    first = scores(classifier, records[:5], cache=cache)
    other = dataclasses.replace(classifier, model=copy.deepcopy(classifier.model))
    other.model.temporal.position.data += 1
    other.templates = ["a photo of {}."]
    assert not same(first, scores(other, records[:5], cache=cache)) and len(decoded) == 5
    other.model.visual.conv1.weight.data *= 0.9
    scores(other, records[:5], cache=cache)
    scores(other.interpolated(0.5), records[:5], cache=cache)
    scores(classifier, records[:5], cache=cache, clips=2)
    scores(classifier, records[:5], cache=cache, precision="bf16")
    assert len(decoded) == 25


def test_part_of_a_list_in_the_cache_and_a_list_in_another_order(classifier, records, tmp_path, decoded):
    cache = tmp_path / "cache"
    scores(classifier, records[5:9], cache=cache)
    shuffled = [records[i] for i in np.random.default_rng(0).permutation(NUM_CLIPS)]
    assert same(scores(classifier, shuffled), scores(classifier, shuffled, cache=cache))
    assert len(decoded) == 4 + NUM_CLIPS + (NUM_CLIPS - 4)


def test_other_decoders_and_other_places_have_entries_of_their_own(classifier, records, tmp_path):
    pytest.importorskip("decord")
    spaces = set()
    for decoder in ("pyav", "decord", "decord_single"):
        for places in ("even", "released"):
            data = config().data.model_copy(update={"decoder": decoder})
            asked = config().evaluation.model_copy(update={"places": places})
            dataset = evaluation_dataset(records, asked, data, frames=4, size=64, difference=0)
            spaces.add(open_cache(tmp_path, classifier, dataset).namespace)
    assert len(spaces) == 6


def test_undecodable_videos_are_never_remembered(classifier, records, tmp_path):
    (tmp_path / "bad.mp4").write_bytes(b"not a video")
    shutil.copy(tmp_path / "bad.mp4", tmp_path / "copy.mp4")
    listed = [*records[:3], *(Record(tmp_path / f"{name}.mp4", 0) for name in ("bad", "copy", "absent")), records[0]]
    expected = [True, True, True, False, False, False, True]
    for cache in (None, tmp_path / "cache", tmp_path / "cache"):
        found = scores(classifier, listed, cache=cache, bad_videos="count_wrong", workers=2)
        assert found.valid.tolist() == expected and np.array_equal(found.probabilities[0], found.probabilities[6])
        with pytest.raises(DecodeError, match=r"bad\.mp4: cannot be decoded"):
            scores(classifier, listed, cache=cache)


def test_a_cache_that_cannot_be_written_is_said_and_done_without(classifier, records, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    direct = scores(classifier, records[:4])
    monkeypatch.setattr("mote.datasets.cache.shards._write_all", full)
    with pytest.warns(UserWarning, match="cannot write the feature cache: No space left.*going on without"):
        assert same(direct, scores(classifier, records[:4], cache=tmp_path / "cache"))


def test_bf16_is_near_fp32_and_auto_asks_the_hardware(classifier, records):
    exact, near = scores(classifier, records), scores(classifier, records, precision="bf16")
    difference = np.abs(exact.probabilities - near.probabilities).max()
    assert 0 < difference < 0.1
    assert same(scores(classifier, records, precision="auto"), near if has_bf16(torch.device("cpu")) else exact)


def test_where_the_cache_is(classifier, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_folder() == tmp_path / "mote" / "features"
    assert cache_folder("auto", classifier) is None  # the tiny tower leaves nothing anywhere
    monkeypatch.setattr("mote.inference.features.SMALL_TOWER", 0)
    assert cache_folder("auto", classifier) == default_folder()
    assert cache_folder("some/where", classifier) == Path("some/where") and cache_folder(None, classifier) is None


def evaluate(name: str, *settings: str, out: Path) -> str:
    """`mote eval tiny` in this process, on two threads; returns the predictions it wrote."""
    try:
        torch.set_num_threads(2)
        with pytest.raises(SystemExit) as stop:
            main(["eval", "tiny", *settings, f"evaluation.name={name}", "--out", str(out)])
        assert stop.value.code == 0
    finally:
        torch.set_num_threads(1)
    return (out / f"{name}.csv").read_text()


@pytest.mark.slow
def test_one_and_two_processes_write_the_same_result(records, tmp_path, capsys):
    (tmp_path / "list.txt").write_text("".join(f"{path} {label}\n" for path, label in records))
    (tmp_path / "classes.txt").write_text("\n".join(OTHER_CLASSES[1:]) + "\n")
    where = [f"evaluation.manifest={tmp_path / 'list.txt'}", f"evaluation.classes={tmp_path / 'classes.txt'}"]
    where += [
        "run.cpu=true",
        "evaluation.page=false",
        "evaluation.clips=3",
        "data.workers=0",
        "data.decode_timeout=null",
        f"evaluation.cache={tmp_path / 'cache'}",
    ]
    one = evaluate("one", *where, "--no-cache", "evaluation.batch_size=1", out=tmp_path)
    assert "features of" not in capsys.readouterr().out and not (tmp_path / "cache").exists()
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m", "mote"]
    command = [*torchrun, "eval", "tiny", *where, "evaluation.batch_size=7", "evaluation.name=two"]
    done = subprocess.run([*command, "--out", tmp_path], capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stderr
    assert f"{tmp_path / 'cache'}: features of {NUM_CLIPS + 1} videos, frames and class lists" in done.stdout
    again = evaluate("again", *where, "evaluation.batch_size=64", out=tmp_path)  # on what two processes have cached
    assert one == (tmp_path / "two.csv").read_text() == again
    documents = [json.loads((tmp_path / f"{name}.json").read_text()) for name in ("one", "two", "again")]
    for document in documents:
        assert document.pop("provenance") and document.pop("task")
    assert documents[0] == documents[1] == documents[2] and documents[0]["scored"] == NUM_CLIPS
    assert len({row["probability"] for row in csv.DictReader(one.splitlines())}) > 10


def test_cache_verb_says_its_size_and_clears_it(classifier, records, tmp_path, capsys):
    def verb(*arguments: str | Path) -> tuple[int | str | None, str]:
        with pytest.raises(SystemExit) as stop:
            main(["cache", *map(str, arguments)])
        captured = capsys.readouterr()
        return stop.value.code, captured.out + captured.err

    assert verb("size") == (0, f"{default_folder()}: nothing cached\n")
    scores(classifier, records[:2], cache=tmp_path / "cache")
    assert verb("size", tmp_path / "cache") == (0, usage_line(tmp_path / "cache") + "\n")
    code, text = verb("clear", tmp_path / "cache")
    assert code == 0 and text.endswith("GB freed\n") and not (tmp_path / "cache").exists()
    code, text = verb("clear", tmp_path)
    assert code == 2 and "not a feature cache" in text and text.count("\n") == 1


def test_a_faster_precision_is_named_where_someone_looks_on(classifier, records, monkeypatch, capsys):
    for units, precision, seen, told in (
        (True, "fp32", True, 1), (True, "auto", True, 0), (False, "fp32", True, 0), (True, "fp32", False, 0),
    ):  # fmt: skip
        monkeypatch.setattr("mote.evaluation.video_scores.has_bf16", lambda device, units=units: units)
        monkeypatch.setattr(sys.stderr, "isatty", lambda seen=seen: seen, raising=False)
        _note_precision.cache_clear()
        for _ in range(2):  # but once a process
            scores(classifier, records[:1], precision=precision)
        notes = [line for line in capsys.readouterr().err.splitlines() if "evaluation.precision=auto" in line]
        assert len(notes) == told and all(note.startswith("mote: ") for note in notes)


def test_the_authors_fusion_is_of_cosines(classifier, records):
    """Softmax of the cosines without the logit scale, mean over the views, softmax once more."""
    classifier = dataclasses.replace(classifier, model=copy.deepcopy(classifier.model))
    classifier.model.logit_scale.fill_(3.0)
    settings = config(fusion="reference")
    views = evaluation_dataset(records[:2], settings.evaluation, settings.data, frames=4, size=64, difference=0)
    expected = []
    for index in range(2):
        features = classifier.encode(views[index]["frames"][None])[0]
        pooled = torch.nn.functional.normalize(classifier.model.head(features).mean(1), dim=-1)
        cosines = pooled.double() @ classifier.tuned_text.double().T
        expected.append(cosines.softmax(-1).mean(0).softmax(-1))
    found = scores(classifier, records[:2], fusion="reference").probabilities
    np.testing.assert_allclose(found, torch.stack(expected).numpy(), atol=1e-6)
    assert np.ptp(found) > 1e-3

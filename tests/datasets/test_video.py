import tracemalloc

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader
from video_files import numbered_frames, write_video

from mote.datasets.decoding.decode import read_frames
from mote.datasets.decoding.errors import DecodeError
from mote.datasets.lists.manifest import Record
from mote.datasets.loader import EpochSampler, make_loader
from mote.datasets.sampling import clip_indices, dense_indices, segment_indices
from mote.datasets.transforms import eval_transform, train_transform
from mote.datasets.video import VideoDataset


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    """Five readable clips of 3 to 60 frames, then one that is text."""
    folder = tmp_path_factory.mktemp("videos")
    found = []
    for label, length in enumerate((60, 33, 8, 3, 1)):
        suffix = "avi" if label == 1 else "mp4"
        path = folder / f"clip {label}.{suffix}"
        write_video(path, numbered_frames(length), codec="mpeg4" if suffix == "avi" else "libx264")
        found.append(Record(path, label))
    (folder / "text.mp4").write_text("no video")
    return [*found, Record(folder / "text.mp4", 5)]


def dataset(records, **changes) -> VideoDataset:
    return VideoDataset(records, **{"num_frames": 4, "size": 32, "train": True, **changes})


def as_bytes(items) -> list[bytes]:
    return [item["frames"].numpy().tobytes() for item in items]


def test_training_item(records):
    item = dataset(records)[(0, 1)]
    assert item.pop("cause") == ""
    assert {key: value.dtype for key, value in item.items()} == {
        "frames": torch.uint8,
        "label": torch.int64,
        "index": torch.int64,
        "valid": torch.bool,
    }
    assert item["frames"].shape == (4, 3, 32, 32)
    assert (item["label"].item(), item["index"].item(), item["valid"].item()) == (1, 1, True)


def test_an_item_depends_on_seed_epoch_and_index_alone(records):
    train = dataset(records, seed=1)
    first = as_bytes([train[(3, 0)], train[(3, 1)]])
    assert as_bytes([train[(3, 1)], train[(3, 0)]]) == first[::-1]
    assert as_bytes([dataset(records, seed=1)[(3, 0)]]) == first[:1]
    assert as_bytes([train[(4, 0)]]) != first[:1]
    assert as_bytes([dataset(records, seed=2)[(3, 0)]]) != first[:1]
    assert as_bytes([train[0]]) == as_bytes([train[(0, 0)]])


def test_a_training_item_is_its_sampled_frames_augmented(records):
    rng = np.random.default_rng((1, 3, 0))  # seed, epoch, index
    frames = read_frames(records[0].path, segment_indices(60, 4, rng))
    clip = train_transform(frames, 32, rng, flip=0.5, grayscale=0.5, scale=(0.3, 0.6))
    train = dataset(records, seed=1, flip=0.5, grayscale=0.5, scale=(0.3, 0.6))
    assert torch.equal(train[(3, 0)]["frames"], clip)
    rng = np.random.default_rng((1, 3, 0))
    frames = read_frames(records[0].path, dense_indices(60, 4, 5, 1, rng)[0])
    dense = dataset(records, seed=1, sampling="dense", stride=5)
    assert torch.equal(dense[(3, 0)]["frames"], train_transform(frames, 32, rng))


@pytest.mark.parametrize("sampling", ["segment", "dense"])
def test_testing_views_are_clip_major(records, sampling):
    test = dataset(records, train=False, num_clips=2, num_crops=3, sampling=sampling, stride=2)
    views = test[0]["frames"]
    assert views.shape == (6, 4, 3, 32, 32)
    rows = clip_indices(60, 4, 2) if sampling == "segment" else np.array([[0, 2, 4, 6], [53, 55, 57, 59]])
    for clip, row in enumerate(rows):
        crops = eval_transform(read_frames(records[0].path, row), 32, crops=3)
        assert torch.equal(views[3 * clip : 3 * clip + 3], crops)


@pytest.mark.parametrize(("index", "pairs"), [(0, None), (3, [0, 0, 0, 0, 0, 0, 0, 0]), (4, [0] * 8)])
def test_differences_are_those_of_the_frames(records, index, pairs):
    """Videos of 60, 3 and 1 frames, 2 frames apart, frame by frame."""
    views = dataset(records, train=False, num_frames=8, num_clips=2, num_crops=3, difference=2)[index]["frames"]
    length = (60, 33, 8, 3, 1)[index]
    for clip, row in enumerate(clip_indices(length, 8, 2)):
        for t, frame in enumerate(row if pairs is None else pairs):
            earlier = min(int(frame), max(length - 3, 0))
            both = read_frames(records[index].path, [earlier, min(earlier + 2, length - 1)])
            for crop, (a, b) in enumerate(eval_transform(both, 32, crops=3).numpy().astype(int)):
                assert (views[3 * clip + crop, t].numpy() == np.clip(128 + b - a, 0, 255)).all()
    if length == 1:
        assert (views == 128).all()


def test_training_differences_share_crop_and_flip(records):
    train = dataset(records, seed=1, flip=0.5, scale=(0.3, 0.6), difference=3)
    rng = np.random.default_rng((1, 3, 0))
    earlier = segment_indices(60, 4, rng).clip(max=56)
    pixels = train_transform(
        read_frames(records[0].path, np.concatenate([earlier, earlier + 3])), 32, rng, flip=0.5, scale=(0.3, 0.6)
    )
    expected = (pixels[4:].int() - pixels[:4].int() + 128).clamp(0, 255)
    assert torch.equal(train[(3, 0)]["frames"].int(), expected)


@pytest.mark.parametrize("index", [2, 3, 4])
def test_short_videos_fill_a_clip(records, index):
    length = (60, 33, 8, 3, 1)[index]
    clip = dataset(records, train=False, size=96, num_frames=8)[index]["frames"]
    assert clip.shape == (1, 8, 3, 96, 96)
    frames = read_frames(records[index].path, [i * length // 8 for i in range(8)])
    assert torch.equal(clip, eval_transform(frames, 96))


def test_an_undecodable_video_raises_or_is_marked(records):
    with pytest.raises(DecodeError, match=r"text\.mp4: cannot be decoded"):
        dataset(records)[5]
    marked = dataset(records, on_error="mark")
    item = marked[(2, 5)]
    assert (item["valid"].item(), item["label"].item(), item["index"].item()) == (False, 5, 5)
    assert item["frames"].shape == (4, 3, 32, 32)
    assert not item["frames"].any()
    assert dataset(records, on_error="mark", train=False, num_clips=2)[5]["frames"].shape == (2, 4, 3, 32, 32)
    with pytest.raises(DecodeError, match=r"text\.mp4"):
        marked.frames(0, 5)


def test_wrong_arguments_are_refused(records):
    for changes, message in (
        ({"sampling": "sparse"}, "sampling must be"),
        ({"on_error": "skip"}, "on_error must be"),
        ({"num_clips": 2}, "training uses one view"),
        ({"train": False, "num_crops": 2}, "num_crops must be 1 or 3"),
        ({"difference": -1}, "difference must be"),
    ):
        with pytest.raises((ValueError, TypeError), match=f"{message}|Type-check"):
            dataset(records, **changes)


def test_workers_change_nothing(records):
    """In this process, in two forked workers (after this process decoded videos itself), and in a spawned one."""
    train, bounded = (dataset(records, seed=4, on_error="mark", timeout=timeout) for timeout in (None, 60.0))
    sampler = EpochSampler(len(records), seed=4)
    sampler.set_epoch(2)
    batches = [
        list(make_loader(videos, 2, sampler=sampler, workers=workers, drop_last=False))
        for videos, workers in ((train, 0), (train, 1), (train, 2), (bounded, 0), (bounded, 2))
    ]
    spawned = DataLoader(bounded, 2, sampler=sampler, num_workers=1, multiprocessing_context="spawn")
    for other in (*batches[1:], list(spawned)):
        for batch, reference in zip(other, batches[0], strict=True):
            assert all(torch.equal(batch[key], reference[key]) for key in reference if key != "cause")
            assert batch["cause"] == reference["cause"]
    assert all(batch["frames"].movedim(-3, -1).is_contiguous() for workers in batches for batch in workers)
    assert torch.cat([batch["index"] for batch in batches[0]]).tolist() == [index for _, index in sampler]
    assert sum(int((~batch["valid"]).sum()) for batch in batches[0]) == 1


def test_a_workers_error_names_the_file_in_one_line(records):
    loader = make_loader(dataset(records), 2, sampler=EpochSampler(6, shuffle=False), workers=1, drop_last=False)
    with pytest.raises(DecodeError) as caught:
        list(loader)
    assert str(caught.value).startswith(f"{records[5].path}: cannot be decoded by pyav: ")
    assert "\n" not in str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize("decoder", ["pyav", "pillow"])
def test_one_frame_at_a_time_is_held_in_full_size(tmp_path, decoder):
    """Ten clips of four frames: 40 frames of 0.9 MB each, of which 1.2 MB in all are kept."""
    frames = numbered_frames(40, 640, 480)
    path = write_video(tmp_path / "a.mp4", frames, gop=4) if decoder == "pyav" else tmp_path / "frames"
    if decoder == "pillow":
        path.mkdir()
        for number, frame in enumerate(frames):
            Image.fromarray(frame).save(path / f"{number}.bmp")
    large = dataset([Record(path, 0)], train=False, num_clips=10, size=100)
    tracemalloc.start()
    views = large[0]["frames"]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert views.shape == (10, 4, 3, 100, 100) and peak < 8 * frames[0].nbytes

"""Timelines: scores of windows bit for bit those of each window alone; each frame once; memory that does not grow."""

import contextlib
import dataclasses
from fractions import Fraction

import av
import numpy as np
import pytest
import torch
from video_files import numbered_frames, write_video

from mote.datasets.decoding.decode import PyAVVideo, open_video, read_frames
from mote.datasets.decoding.errors import DecodeError
from mote.datasets.transforms import eval_transform, subtract_frames
from mote.inference.loading import load_video
from mote.metrics.scoring import fuse_views
from mote.models.temporal import TemporalHead
from mote.prediction.timeline import cut_into, score_file, windows_of

NAMES = ["a red square", "a blue ball", "a green triangle", "green star"]


@pytest.fixture(scope="module")
def classifier():
    found = load_video("tiny")
    torch.manual_seed(0)
    found.model.temporal = TemporalHead(found.model.embed_dim, 2, 2, 1, max_frames=16).eval().requires_grad_(False)
    return found


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Name -> a file of numbered frames: steady, short, of an uneven rate, and one whose frames are counted."""
    folder = tmp_path_factory.mktemp("videos")
    frames = numbered_frames(120)
    made = {"steady": write_video(folder / "steady.mp4", frames), "counted": folder / "counted.avi"}
    made["short"] = write_video(folder / "short.mp4", frames[:5])
    made["single"] = write_video(folder / "single.mp4", frames[:1])
    write_video(made["counted"], frames, codec="mpeg4")
    made["uneven"] = write_uneven(folder / "uneven.mp4", frames[:60])
    return made


def uneven_times(count):
    """Milliseconds at which frames are shown: gaps of 20, 40 and 300."""
    gaps = np.random.default_rng(3).choice([20, 40, 300], size=count - 1)
    return np.append(0, np.cumsum(gaps))


def write_uneven(path, frames):
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = frames.shape[2], frames.shape[1], "yuv420p"
        stream.time_base = stream.codec_context.time_base = Fraction(1, 1000)
        for frame, time in zip(frames, uneven_times(len(frames)).tolist(), strict=True):
            picture = av.VideoFrame.from_ndarray(frame, format="rgb24")
            picture.pts, picture.time_base = time, stream.codec_context.time_base
            file.mux(stream.encode(picture))
        file.mux(stream.encode(None))
    return path


def alone(classifier, file, frames):
    """The scores of a window cut out by its frame numbers and scored as a batch of one."""
    if classifier.difference:
        with open_video(file) as video:
            earlier = np.minimum(frames, video.num_frames - 1 - classifier.difference)
        frames = np.concatenate([earlier, earlier + classifier.difference])
    clip = eval_transform(read_frames(file, frames), classifier.size, 1, classifier.model.preprocessing)
    clip = subtract_frames(clip) if classifier.difference else clip
    return fuse_views(classifier.scorer(NAMES)({"frames": clip[None, 0][None]}))[0].numpy()


VARIANTS = {
    "as it is": {},
    "no temporal head": {"temporal": None},
    "dense": {"sampling": "dense", "stride": 2},
    "differences": {"difference": 3},
    "five frames": {"frames": 5},
}


def variant(classifier, change):
    if "temporal" not in change:
        return dataclasses.replace(classifier, **change)
    model = classifier.model.sharing_parameters()
    model.temporal = None
    return dataclasses.replace(classifier, model=model)


@pytest.mark.parametrize("change", VARIANTS.values(), ids=VARIANTS.keys())
@pytest.mark.parametrize("name", ["steady", "uneven", "counted", "short", "single"])
def test_scores_are_those_of_each_window_alone(classifier, files, name, change):
    if name == "single" and "difference" in change:
        pytest.skip("one frame has no difference")
    model = variant(classifier, change)
    windows = windows_of(model, 1.0, 0.3)
    scored = list(score_file(str(files[name]), model, NAMES, windows, map))
    with open_video(files[name]) as video:
        timeline = cut_into(windows, video)
    assert [(s.start, s.end) for s in scored] == [tuple(place) for place in timeline.places.tolist()]
    for window, frames in zip(scored, timeline.frames, strict=True):
        assert np.array_equal(window.scores, alone(model, files[name], frames))
    assert len({tuple(window.scores) for window in scored}) > len(scored) / 2 or name == "single"


def test_windows_of_an_uneven_file_are_taken_by_time(classifier, files):
    with open_video(files["uneven"]) as video:
        times = uneven_times(60) / 1000
        assert np.allclose(video.times, times, atol=1e-3)
        timeline = cut_into(windows_of(classifier, 1.0, 0.5), video)
    for (start, end), row in zip(timeline.places, timeline.frames, strict=True):
        for place, number in enumerate(row):
            moment = start + (place + 0.5) * (end - start) / 8
            assert times[number] <= moment + 1e-3 and (number == 59 or times[number + 1] > moment - 1e-3)


def test_each_frame_is_decoded_and_encoded_once(classifier, files, monkeypatch):
    asked, images = [], []
    frames, encode = PyAVVideo.frames, type(classifier).encode
    monkeypatch.setattr(PyAVVideo, "frames", lambda self, wanted: asked.append(wanted) or frames(self, wanted))
    monkeypatch.setattr(type(classifier), "encode", lambda self, x: images.append(x.shape[2]) or encode(self, x))
    scored = list(score_file(str(files["steady"]), classifier, NAMES, windows_of(classifier, 2.0, 0.25), map))
    assert len(scored) == 13
    [numbers] = asked
    assert len(numbers) == len(set(numbers.tolist())) == (8 + 11) + 8  # the last window is no multiple of a step away
    assert images == [8, 8, 8, 8]  # 27 frames, and 5 black images


def test_the_temporal_head_and_the_tower_do_depend_on_the_shape_of_a_call(classifier, files):
    """Why calls have one shape: were this to fail, larger calls would do."""
    clip = eval_transform(read_frames(files["steady"], np.arange(0, 64, 8)), classifier.size)[0]
    eight = classifier.encode(clip[None, None])[0, 0]
    once = torch.cat([classifier.encode(frame[None, None, None])[0, 0] for frame in clip])
    assert torch.allclose(eight, once, atol=1e-4)
    turned = classifier.encode(clip.flip(0)[None, None])[0, 0].flip(0)
    assert torch.equal(eight, turned)  # the place within a call makes no difference


def test_a_file_that_contradicts_its_times_is_counted(classifier, tmp_path):
    file = write_video(tmp_path / "a.mkv", numbered_frames(40), codec="mpeg4", b_frames=2, stored_order=True)
    begun = []
    windows = windows_of(classifier, 0.5, 0.25)

    def begin(timeline):
        begun.append(timeline)
        return lambda number, frame: None

    scored = list(score_file(str(file), classifier, NAMES, windows, map, begin))
    with open_video(file) as video:
        with contextlib.suppress(DecodeError):
            video.read(range(40))
        frames = cut_into(windows, video).frames
    for window, row in zip(scored[-len(frames) :], frames, strict=True):
        assert np.array_equal(window.scores, alone(classifier, file, row))
    assert len(begun[-1].frames) == len(frames)


def test_a_folder_of_frames_has_no_times(classifier, tmp_path):
    from PIL import Image

    Image.fromarray(numbered_frames(1)[0]).save(tmp_path / "1.png")
    with pytest.raises(DecodeError, match="nothing in it says when its frames are shown"):
        list(score_file(str(tmp_path), classifier, NAMES, windows_of(classifier, 1.0, 1.0), map))


def test_weights_that_give_no_numbers_are_said(classifier, files):
    broken = dataclasses.replace(classifier, model=classifier.model.sharing_parameters())
    broken.model.logit_scale = torch.nn.Parameter(torch.tensor(float("nan")), requires_grad=False)
    with pytest.raises(ValueError, match="no numbers"):
        list(score_file(str(files["short"]), broken, NAMES, windows_of(broken, 1.0, 1.0), map))

"""decord as `data.decoder`: the frames asked for on plain MP4 files, with a bound, or one line."""

import sys

import numpy as np
import pytest
from video_files import numbered_frames, numbers, write_video

from mote.config import validate
from mote.datasets.decoding.decode import open_video, read_frames
from mote.datasets.decoding.errors import DecodeError
from mote.datasets.lists.manifest import Record
from mote.datasets.sampling import segment_indices
from mote.datasets.video import VideoDataset
from mote.evaluation.views import evaluation_dataset
from mote.experiments.loaders import training_dataset


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return write_video(tmp_path_factory.mktemp("clip") / "clip.mp4", numbered_frames(70), b_frames=0)


def test_a_missing_package_is_one_line_before_any_file_is_opened(clip, monkeypatch):
    monkeypatch.setitem(sys.modules, "decord", None)
    message = r"^data\.decoder=decord: decord is not installed; pip install decord2, or take pyav$"
    with pytest.raises(ValueError, match=message):
        read_frames(clip, [0], decoder="decord")
    with pytest.raises(ValueError, match=message):
        VideoDataset([], num_frames=2, size=32, train=True, decoder="decord")


def test_made_files_give_the_frames_asked_for(clip):
    pytest.importorskip("decord")
    assert numbers(read_frames(clip, [40, 3, 3, 69, 0, 40], decoder="decord")) == [40, 3, 3, 69, 0, 40]
    assert numbers(read_frames(clip, [5, 31], "decord", near_keyframes=True)) == [5, 31]  # it names no key frames
    with pytest.raises(IndexError):
        read_frames(clip, [70], decoder="decord")


class Recorded:
    """A reader that notes which frames are asked for one by one."""

    def __init__(self, reader, wanted):
        self.reader, self.wanted = reader, wanted

    def __getitem__(self, number):
        self.wanted.append(number)
        return self.reader[number]


def test_single_frames_are_those_that_decord_gives_one_after_the_other(tmp_path, monkeypatch):
    decord = pytest.importorskip("decord")
    file = write_video(tmp_path / "clip.avi", numbered_frames(70), "mpeg4", b_frames=0)
    asked = [0, 23, 46, 5, 28, 28, 51, 69]
    reader = decord.VideoReader(str(file), num_threads=1)
    theirs = np.stack([reader[n].asnumpy() for n in asked])
    assert np.array_equal(read_frames(file, asked, "decord_single"), theirs)
    with open_video(file, "decord_single") as video:
        wanted = []
        monkeypatch.setattr(video, "_reader", Recorded(video._reader, wanted))
        video.read(asked)
    assert wanted == asked  # in this order, and as often
    assert read_frames(file, asked, "decord_single", each=lambda frame: frame[0, 0]).shape == (8, 3)
    with pytest.raises(IndexError):
        read_frames(file, [70], "decord_single")
    file.write_bytes(file.read_bytes()[:300])
    with pytest.raises(DecodeError, match="cannot be decoded by decord_single"):
        read_frames(file, [0], "decord_single")


def test_the_setting_reaches_training_and_evaluation_and_is_bounded(clip, tmp_path):
    pytest.importorskip("decord")
    (tmp_path / "damaged.mp4").write_text("no video")
    records = [Record(clip, 0), Record(tmp_path / "damaged.mp4", 1)]
    config = validate({"data": {"decoder": "decord", "frames": 4}})
    assert validate({}).data.decoder == "pyav"
    settings, data = config.evaluation, config.data
    plain = evaluation_dataset(
        records, settings, data.model_copy(update={"decode_timeout": None}), frames=4, size=32, difference=0
    )
    bounded = evaluation_dataset(records, settings, data, frames=4, size=32, difference=0)
    training = training_dataset(data, records, 32, 0)
    assert (plain.decoder, bounded.decoder, training.decoder) == ("decord", "decord", "decord")
    views = plain[0]["frames"]
    assert views.equal(bounded[0]["frames"]) and training[(0, 0)]["valid"]
    expected = read_frames(clip, segment_indices(70, 4), decoder="decord")
    assert numbers(expected) == [0, 17, 35, 52] and views.shape == (1, 4, 3, 32, 32)
    for dataset in (plain, bounded, training):
        path, cause = dataset[1]["cause"].split("\t")
        assert path.endswith("damaged.mp4") and cause
    with pytest.raises(DecodeError, match=r"damaged\.mp4: cannot be decoded by decord: "):
        bounded.frames(0, 1)


def test_decord_and_pyav_agree(clip, real_data):
    pytest.importorskip("decord")
    odd = real_data / "odd_videos"
    for path in [clip, *sorted(odd.glob("decord_*.mov")), odd / "decord_flipping_a_pancake.mkv"]:
        with open_video(path) as ours, open_video(path, "decord") as theirs:
            assert (ours.num_frames, ours.fps) == (theirs.num_frames, pytest.approx(theirs.fps))
            indices = np.linspace(0, ours.num_frames - 1, 4).astype(int)
            difference = ours.read(indices).astype(int) - theirs.read(indices)
            assert abs(difference).mean() < 1  # two builds of FFmpeg; observed: equal

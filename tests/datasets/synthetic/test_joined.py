"""Clips laid end to end: every frame where the list says, neighbours of one class as one segment."""

import csv
from pathlib import Path

import numpy as np
import pytest

from mote.datasets.decoding.decode import open_video
from mote.datasets.decoding.encode import write_video
from mote.datasets.lists.segments import read_segments
from mote.datasets.synthetic.joined import join_clips

GREY = {"a": 40, "b": 110, None: 200}


@pytest.fixture
def clips(tmp_path) -> list[tuple[Path, str | None]]:
    """Clips of one grey each, of 6 to 11 frames at 12 frames a second, 32x32 pixels."""
    found = []
    for number, label in enumerate(["a", "b", None, "a", "b", "a", None, "b", "a"]):
        path = tmp_path / f"{number}.mp4"
        write_video(path, np.full((6 + number % 6, 32, 32, 3), GREY[label], np.uint8))
        found.append((path, label))
    return found


def lines(path: Path) -> list[list[str]]:
    """Start, end and label of each line."""
    with path.open() as file:
        return [row[1:] for row in csv.reader(file)][1:]


def test_every_frame_shows_what_the_list_says(clips, tmp_path):
    path = join_clips(clips, tmp_path / "long", per_video=4, size=(32, 32), fps=12, seed=3)
    listed = read_segments(path, ["a", "b"])
    assert len(listed.videos) == 3 and path.parent == tmp_path / "long"
    frames = 0
    for number, video in enumerate(listed.videos):
        with open_video(video) as opened:
            times, shades = opened.times, opened.read(range(opened.num_frames)).mean(axis=(1, 2, 3))
        frames += len(times)
        expected = np.full(len(times), float(GREY[None]))
        for _, start, end, label in (segment for segment in listed.segments if segment[0] == number):
            expected[(times >= start - 1e-6) & (times < end - 1e-6)] = GREY[label]
        assert np.abs(shades - expected).max() < 3
        ends = [segment[2] for segment in listed.segments if segment[0] == number]
        starts = [segment[1] for segment in listed.segments if segment[0] == number]
        names = [segment[3] for segment in listed.segments if segment[0] == number]
        touching = [ends[i] == pytest.approx(starts[i + 1]) for i in range(len(ends) - 1)]
        assert not any(near and names[i] == names[i + 1] for i, near in enumerate(touching))
    assert frames == sum(6 + number % 6 for number in range(9))


def test_other_sizes_and_rates_are_fitted(clips, tmp_path):
    wide = tmp_path / "wide.mp4"
    write_video(wide, np.full((24, 32, 64, 3), 255, np.uint8), fps=24)
    path = join_clips([(wide, "a")], tmp_path / "long", per_video=1, size=(32, 32), fps=6)
    with open_video(path.with_name("0000.mp4")) as video:
        frames = video.read(range(video.num_frames))
    assert len(frames) == 6 and frames[:, 10:22].min() > 240 and frames[:, :6].max() < 16
    assert lines(path) == [["0.000000", "1.000000", "a"]]


def test_a_video_of_unlisted_clips_alone_says_that_nothing_is_in_it(clips, tmp_path):
    path = join_clips(
        [clips[2], clips[0]],
        tmp_path / "long",
        per_video=1,
        size=(32, 32),
        fps=12,
    )
    assert sorted(lines(path)) == [["", "", ""], ["0.000000", "0.500000", "a"]]


def test_the_same_seed_gives_the_same_files_and_what_is_there_stays(clips, tmp_path):
    one, other = (join_clips(clips, tmp_path / name, per_video=5, size=(32, 32), fps=12, seed=1) for name in "xy")
    assert one.read_bytes() == other.read_bytes()
    assert (tmp_path / "x/0001.mp4").read_bytes() == (tmp_path / "y/0001.mp4").read_bytes()
    with pytest.raises(FileExistsError, match="not empty"):
        join_clips(clips, tmp_path / "x", per_video=5, size=(32, 32), fps=12)
    with pytest.raises(ValueError, match="even size"):
        join_clips(clips, tmp_path / "z", per_video=5, size=(33, 32), fps=12)
    with pytest.raises(ValueError, match="0 clips"):
        join_clips([], tmp_path / "z", per_video=5, size=(32, 32), fps=12)

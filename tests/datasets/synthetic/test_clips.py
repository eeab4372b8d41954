"""The synthetic world: what is drawn, what single frames give away, and the files that are written."""

import json
from pathlib import Path

import av
import numpy as np
import pytest

from mote.datasets.decoding.encode import write_video, yuv420
from mote.datasets.synthetic import clips
from mote.datasets.synthetic.clips import (
    APPEARANCE,
    CLASSES,
    HELD_OUT,
    MOTIONS,
    PRETRAINED,
    SEEN_OBJECTS,
    SEEN_PAIRS,
    UNSEEN_OBJECTS,
    UNSEEN_PAIRS,
    make_world,
    render_clip,
    render_image,
    render_still,
    split_class,
    track,
)
from mote.datasets.synthetic.drawing import COLOURS, SHAPES, SIZE, Track, draw_object

OPPOSITES = [MOTIONS[i : i + 2] for i in range(0, 8, 2)]
NO_CLIPS = dict.fromkeys(CLASSES, 0)


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return 10 * np.log10(255**2 / np.mean((a.astype(float) - b.astype(float)) ** 2))


def decode(path: Path) -> np.ndarray:
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def place(x: float = 32, y: float = 32, radius: float = 14, angle: float = 0, opacity: float = 1) -> Track:
    return Track(*(np.array([value], dtype=np.float32) for value in (x, y, radius, angle, opacity)))


def drawn(shape: str, where: Track, ground: float = 0) -> np.ndarray:
    frames = np.full((1, SIZE, SIZE, 3), ground, dtype=np.float32)
    return draw_object(frames, where, shape, np.ones(3, dtype=np.float32), 0)[0, :, :, 0]


def covered(shape: str, where: Track) -> np.ndarray:
    """The covered part of each pixel: what is left of a white ground, less what appears on a black one."""
    return 1 - (drawn(shape, where, ground=1) - drawn(shape, where, ground=0))


def test_same_generator_same_pixels():
    clips = [render_clip(np.random.default_rng(seed), "red star", "circling") for seed in (3, 3, 4)]
    assert clips[0].shape == (16, SIZE, SIZE, 3) and clips[0].dtype == np.uint8
    assert np.array_equal(clips[0], clips[1]) and not np.array_equal(clips[0], clips[2])
    stills = [render_image(np.random.default_rng(seed), "red star") for seed in (3, 3, 4)]
    assert np.array_equal(stills[0], stills[1]) and not np.array_equal(stills[0], stills[2])


@pytest.mark.parametrize("num_frames", [1, 2, 7])
def test_any_number_of_frames(num_frames):
    rng = np.random.default_rng(0)
    assert all(len(render_clip(rng, "blue ring", motion, num_frames)) == num_frames for motion in MOTIONS)


AREAS = {  # in units of radius^2, by elementary geometry from the outlines in drawing.py
    "ball": np.pi * 0.9**2,
    "square": 1.6**2,
    "triangle": 3 * 3**0.5 / 4,
    "ring": np.pi * (0.96**2 - 0.48**2),
    "cross": 2 * 2 * 0.6 - 0.6**2,
    "star": 10 * 0.5 * 1.05 * 0.42 * np.sin(np.pi / 5),
    "arrow": 1.05 * 0.6 + 0.5 * 0.95 * 1.6,
}


@pytest.mark.parametrize(("shape", "area"), AREAS.items())
@pytest.mark.parametrize("angle", [0, 0.7])
def test_covered_area_is_the_area_of_the_shape(shape, area, angle):
    assert covered(shape, place(31.3, 33.1, 14, angle)).sum() == pytest.approx(14**2 * area, rel=0.02)


def test_square_edges_are_antialiased_to_the_exact_fraction():
    cover = covered("square", place(32, 32, radius=10.5))[32]  # from 32 - 8.4 = 23.6 to 40.4
    assert cover[24:40] == pytest.approx(np.ones(16), abs=1e-6)
    assert (cover[23], cover[40]) == (pytest.approx(0.4, abs=0.12), pytest.approx(0.4, abs=0.12))


def test_opacity_mixes_linearly():
    assert covered("ball", place(opacity=0.25))[32, 32] == pytest.approx(0.25)


@pytest.mark.parametrize("shape", SHAPES)
def test_bright_half_turns_clockwise_with_the_angle(shape):
    y, x = np.mgrid[0:SIZE, 0:SIZE] + 0.5 - SIZE / 2
    toward = {0.0: -y, np.pi / 2: x, np.pi: y, 3 * np.pi / 2: -x}  # above, right, below, left on the screen
    for angle, direction in toward.items():
        where = place(angle=angle)
        cover = covered(shape, where)
        tone = drawn(shape, where) / np.maximum(cover, 1e-6)
        bright, dark = (tone[(cover > 0.9) & side].mean() for side in (direction > 1.5, direction < -1.5))
        assert bright > 1.35 * dark


@pytest.mark.parametrize(
    ("motion", "axis", "sign"),
    [
        ("moving left", "x", -1),
        ("moving right", "x", 1),
        ("moving up", "y", -1),
        ("moving down", "y", 1),
        ("turning clockwise", "angle", 1),
        ("turning counterclockwise", "angle", -1),
        ("growing", "radius", 1),
        ("shrinking", "radius", -1),
    ],
)
def test_motion_goes_where_its_name_says(motion, axis, sign):
    rng = np.random.default_rng(0)
    for _ in range(50):
        assert (sign * np.diff(getattr(track(rng, motion, 16), axis)) > 0).all()


def random_frames(motion: str, count: int, seed: int) -> np.ndarray:
    """(count, 5): x, y, radius, angle, opacity, each of one random frame of a track of its own."""
    rng = np.random.default_rng(seed)
    return np.array([[values[rng.integers(16)] for values in track(rng, motion, 16)] for _ in range(count)])


def kolmogorov_smirnov(a: np.ndarray, b: np.ndarray) -> float:
    """Largest difference of the empirical distribution functions of two samples."""
    points = np.concatenate([a, b])
    below = [np.searchsorted(np.sort(sample), points, side="right") / len(sample) for sample in (a, b)]
    return float(np.abs(below[0] - below[1]).max())


@pytest.mark.parametrize(("first", "second"), OPPOSITES)
def test_single_frames_do_not_tell_opposite_motions_apart(first, second):
    count = 2000
    a, b = random_frames(first, count, 1), random_frames(second, count, 2)
    limit = 1.95 * (2 / count) ** 0.5  # exceeded with probability 0.001 by equal distributions
    assert max(kolmogorov_smirnov(a[:, i], b[:, i]) for i in range(5)) < limit


@pytest.mark.parametrize("motion", MOTIONS)
def test_size_angle_and_opacity_of_single_frames_are_the_same_for_all_motions(motion):
    count = 1500
    a, b = random_frames(motion, count, 3), random_frames("shaking", count, 4)
    assert max(kolmogorov_smirnov(a[:, i], b[:, i]) for i in (2, 3, 4)) < 1.95 * (2 / count) ** 0.5


@pytest.mark.parametrize("motion", MOTIONS)
def test_objects_stay_in_the_picture(motion):
    rng = np.random.default_rng(5)
    for _ in range(100):
        path = track(rng, motion, 16)
        assert min(path.x.min(), path.y.min()) >= 11.9 and max(path.x.max(), path.y.max()) <= SIZE - 11.9


def test_still_tells_the_truth(monkeypatch):
    """What it says of place and size holds for the track that was drawn."""
    seen = []
    monkeypatch.setattr(clips, "draw_object", lambda frames, where, *rest: seen.append(where) or frames)
    rng = np.random.default_rng(6)
    for _ in range(60):
        still, where = render_still(rng, "green moon"), seen[-1]
        x, y, radius, angle, opacity = (float(values[0]) for values in where)
        assert (
            still.column == ("far left", "left", "centre", "right", "far right")[int(np.digitize(x, [20, 28, 36, 44]))]
        )
        assert (
            still.row
            == ("very top", "top", "mid height", "bottom", "very bottom")[int(np.digitize(y, [20, 28, 36, 44]))]
        )
        assert still.size == ("small" if radius < 10 else "large" if radius > 14 else "medium")
        degrees = np.rad2deg(angle)  # clockwise
        assert still.lean == ("leaning left" if degrees < -15 else "leaning right" if degrees > 15 else "upright")
        assert still.strength == ("faded" if opacity < 0.9 else "bright")


def test_unknown_names_are_refused_with_the_choices():
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match=r"object 'grey star' .*red.*star"):
        render_clip(rng, "grey star", "growing")
    with pytest.raises(ValueError, match=r"motion 'flying' .*moving left"):
        render_clip(rng, "red star", "flying")


def test_video_is_h264_and_near_the_original(tmp_path):
    frames = render_clip(np.random.default_rng(7), "pink cross", "turning clockwise")
    for name in ("a.mp4", "b.mp4"):
        write_video(tmp_path / name, frames)
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.mp4", "b.mp4"]
    with av.open(str(tmp_path / "a.mp4")) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert (stream.frames, stream.average_rate) == (16, 12)
    decoded = decode(tmp_path / "a.mp4")
    assert decoded.shape == frames.shape
    assert psnr(decoded, frames) > 26
    assert psnr(decoded, frames) > psnr(decoded, frames[::-1]) + 5  # and in order


def test_colour_conversion_agrees_with_ffmpeg():
    """On flat frames, where it does not matter between which pixels the chroma samples lie."""
    colours = np.random.default_rng(8).integers(0, 256, (20, 1, 1, 3), dtype=np.uint8)
    frames = np.broadcast_to(colours, (20, 8, 8, 3)).copy()
    theirs = np.stack([av.VideoFrame.from_ndarray(f).reformat(format="yuv420p").to_ndarray() for f in frames])
    assert np.abs(yuv420(frames).astype(int) - theirs).max() <= 1


def test_classes_of_the_splits():
    assert len(SEEN_PAIRS) == 72 and len(UNSEEN_PAIRS) == 48 and len(APPEARANCE) == 24
    assert not set(SEEN_PAIRS) & set(UNSEEN_PAIRS)
    assert {split_class(title)[0] for title in UNSEEN_PAIRS} == set(SEEN_OBJECTS)
    for motion in MOTIONS:  # every motion is learnable from several objects, and asked of others
        assert sum(title.endswith(f" {motion}") for title in SEEN_PAIRS) == 6
        assert sum(title.endswith(f" {motion}") for title in UNSEEN_PAIRS) == 4
    groups = [set(SEEN_OBJECTS), set(UNSEEN_OBJECTS), set(APPEARANCE), set(HELD_OUT)]
    assert sum(map(len, groups)) == len(set().union(*groups)) == 10 + 6 + 24 + 16
    assert set().union(*groups[:3]) <= set(PRETRAINED)
    assert {shape for thing in SEEN_OBJECTS for shape in thing.split()[1:]} == set(SHAPES)
    assert {thing.split()[0] for thing in HELD_OUT} == set(COLOURS)
    assert all(split_class(title) == (title, "") for title in APPEARANCE)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    return folder, make_world(folder, seed=5, clips_per_class=dict.fromkeys(CLASSES, 1), num_frames=4, workers=0)


def test_manifests_list_the_clips_and_their_classes(world):
    folder, splits = world
    assert set(splits) == set(CLASSES)
    for number, (name, split) in enumerate(splits.items()):
        classes = split.classes.read_text().splitlines()
        assert tuple(classes) == CLASSES[name]
        lines = [line.rsplit(" ", 1) for line in split.manifest.read_text().splitlines()]
        assert [int(label) for _, label in lines] == list(range(len(classes)))
        assert len({file for file, _ in lines}) == len(lines)
        assert all((folder / file).is_file() for file, _ in lines)
        label = 7 * number % len(classes)
        thing, motion = split_class(classes[label])
        if motion:
            again = render_clip(np.random.default_rng((5, number, label)), thing, motion, 4)
            assert psnr(decode(folder / lines[label][0]), again) > 26


def test_complete_world_is_reused_and_an_interrupted_one_is_not(tmp_path):
    def make(seed: int = 0) -> int:
        splits = make_world(tmp_path, seed=seed, clips_per_class=NO_CLIPS | {"appearance": 1}, num_frames=2, workers=0)
        return (splits["appearance"].manifest.parent / "appearance" / "00003.mp4").stat().st_mtime_ns

    first = make()
    assert make() == first
    other = make(seed=1)
    assert other != first and json.loads((tmp_path / "world.json").read_text())["seed"] == 1
    (tmp_path / "world.json").unlink()
    assert make(seed=1) != other


def test_processes_do_not_change_the_files(tmp_path):
    settings = {"seed": 2, "clips_per_class": NO_CLIPS | {"appearance": 1}, "num_frames": 3}
    make_world(tmp_path / "one", workers=0, **settings)
    make_world(tmp_path / "two", workers=2, **settings)
    for file in (tmp_path / "one" / "appearance").iterdir():
        assert file.read_bytes() == (tmp_path / "two" / "appearance" / file.name).read_bytes()


def test_unknown_split_is_refused(tmp_path):
    with pytest.raises(ValueError, match="unknown split"):
        make_world(tmp_path, clips_per_class={"training": 3})

import contextlib
import ctypes
import gc
import pickle
from unittest.mock import Mock

import av
import numpy as np
import pytest
from PIL import Image
from video_files import FILES, numbered_frames, numbers, write_video

from mote.datasets.decoding import pyav_video
from mote.datasets.decoding.decode import open_video, read_frames
from mote.datasets.decoding.errors import DecodeError, FrameOrderError

NUM_FRAMES = 70


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """A 70-frame H.264 file with its index in front, so that a cut file can still be opened."""
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    return write_video(path, numbered_frames(NUM_FRAMES), container={"movflags": "faststart"})


@pytest.mark.parametrize("name", FILES)
def test_every_frame_is_the_one_asked_for(name, tmp_path):
    file, options = FILES[name]
    path = write_video(tmp_path / file, numbered_frames(NUM_FRAMES), **options)
    rng = np.random.default_rng(0)
    for _ in range(6):
        wanted = np.sort(rng.integers(0, NUM_FRAMES, 8))
        assert numbers(read_frames(path, wanted)) == wanted.tolist()
    with open_video(path) as video:
        assert video.num_frames == NUM_FRAMES
    assert numbers(read_frames(path, lambda length: np.arange(length))) == list(range(NUM_FRAMES))


def test_frames_near_key_frames(tmp_path):
    """Groups of 12 in 70 frames; half a segment of two frames is 17 frames, of eight 4. Counted files have no keys."""
    frames = numbered_frames(NUM_FRAMES)
    path = write_video(tmp_path / "a.mp4", frames, codec="mpeg4", gop=12)
    with open_video(path) as video:
        assert video.keyframes == [0, 12, 24, 36, 48, 60]
    assert numbers(read_frames(path, [5, 31], near_keyframes=True)) == [0, 36]
    assert numbers(read_frames(path, [0, 8, 16, 18, 27, 42, 55, 65], near_keyframes=True)) == [
        0, 12, 12, 18, 24, 42, 55, 65,
    ]  # fmt: skip
    counted = write_video(tmp_path / "a.avi", frames, codec="mpeg4", gop=12)
    assert numbers(read_frames(counted, [5, 31], near_keyframes=True)) == [5, 31]


def test_times_that_lie_are_noticed_and_the_length_is_asked_again(tmp_path):
    path = write_video(tmp_path / "a.mkv", numbered_frames(30), codec="mpeg4", b_frames=2, gop=12, stored_order=True)
    lengths = []

    def last(length):
        lengths.append(length)
        return [length - 1]

    assert numbers(read_frames(path, last)) == [29]
    assert 1 <= len(lengths) <= 2


def test_order_and_duplicates_are_kept(clip):
    assert numbers(read_frames(clip, [40, 3, 3, 69, 0, 40])) == [40, 3, 3, 69, 0, 40]


def test_an_open_video_tells_length_rate_and_decoder_and_can_be_read_twice(clip):
    with open_video(clip) as video:
        assert (video.num_frames, video.fps, video.decoder) == (NUM_FRAMES, 25.0, "pyav")
        assert numbers(video.read([60])) == [60]
        assert numbers(video.read([5, 6])) == [5, 6]


def test_a_length_that_was_too_large_is_corrected(tmp_path):
    """Fields stored apart, fillers: more packets than frames. Here the last third of the packets holds nothing."""
    path = write_video(tmp_path / "a.avi", numbered_frames(60), codec="mpeg2video", b_frames=0, blank_from=40)
    with open_video(path) as video:
        assert video.num_frames == 60
        with pytest.raises(FrameOrderError, match="it ends at frame 39"):
            video.read([0, 59])
        assert video.num_frames == 40
    lengths = []

    def spread(length):
        lengths.append(length)
        return [0, length // 2, length - 1]

    assert numbers(read_frames(path, spread)) == [0, 20, 39]
    assert lengths == [60, 40]


@pytest.mark.parametrize("suffix", ["mp4", "avi", "gif", "png"])
def test_one_frame(tmp_path, suffix):
    codec = {"mp4": "libx264", "avi": "mpeg4"}.get(suffix)
    path = tmp_path / f"one.{suffix}"
    if codec:
        write_video(path, np.full((1, 96, 128, 3), 130, np.uint8), codec=codec)
    else:
        Image.fromarray(np.full((96, 128, 3), 130, np.uint8)).save(path)
    frames = read_frames(path, lambda length: np.zeros(8, dtype=np.int64) + length - 1)
    assert frames.shape == (8, 96, 128, 3)
    assert abs(frames.astype(float) - 130).max() <= 3


def test_colours(tmp_path):
    colour = np.array([200, 60, 30], np.uint8)
    path = write_video(tmp_path / "a.mp4", np.full((3, 96, 128, 3), colour))
    assert abs(read_frames(path, [1])[0].astype(int) - colour).max() <= 4


def marked(path, matrix):
    """The file with the display matrix (a, b, c, d) in the place of the plain one."""
    a, b, c, d = (round(value * 2**16) for value in matrix)
    fixed, plain = [a, b, 0, c, d, 0, 0, 0, 1 << 30], [1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30]
    before, after = (b"".join(v.to_bytes(4, "big", signed=True) for v in values) for values in (plain, fixed))
    content = path.read_bytes()
    track = content.index(b"tkhd")
    path.write_bytes(content[:track] + content[track:].replace(before, after, 1))
    return path


MATRICES = {  # what a player makes of a display matrix
    (1, 0, 0, 1): lambda image: image,
    (0, 1, -1, 0): lambda image: np.rot90(image, -1),  # clockwise
    (-1, 0, 0, -1): lambda image: np.rot90(image, 2),
    (0, -1, 1, 0): lambda image: np.rot90(image, 1),
    (-1, 0, 0, 1): np.fliplr,
    (1, 0, 0, -1): np.flipud,
    (0, 1, 1, 0): lambda image: image.swapaxes(0, 1),
    (0, -1, -1, 0): lambda image: np.rot90(image, 2).swapaxes(0, 1),
    (2, 0, 0, 2): lambda image: image,  # its scale is left out
    (0, 0, 0, 0): lambda image: image,
}


@pytest.mark.parametrize("matrix", MATRICES)
def test_the_display_matrix_is_applied_as_a_player_does(tmp_path, matrix):
    image = np.full((3, 96, 128, 3), 30, np.uint8)
    image[:, :48, :64], image[:, :48, 64:] = 230, 160  # top left, top right
    path = marked(write_video(tmp_path / "a.mov", image), matrix)
    expected = MATRICES[matrix](image[0]).astype(int)
    frames = read_frames(path, [0, 2, 2])
    assert frames.shape == (3, *expected.shape) and abs(frames - expected).mean() < 3
    if np.linalg.det(np.reshape(matrix, (2, 2))) >= 0:
        assert abs(read_frames(path, [0], "decord") - expected).mean() < 3
    else:
        with pytest.raises(DecodeError, match="by decord: its display matrix mirrors frames, which decord does not"):
            read_frames(path, [0], "decord")


def test_a_matrix_that_is_none_of_the_eight_is_refused(tmp_path):
    path = write_video(tmp_path / "a.mp4", numbered_frames(2))
    for matrix in ((0.8, 0.6, -0.6, 0.8), (1, 0, 1, 0)):
        with pytest.raises(DecodeError, match="turns frames by other than quarters"):
            read_frames(marked(write_video(path, numbered_frames(2)), matrix), [0])


def test_mirrored_files_look_as_ffmpeg_shows_them(real_data):
    for name in ("matrix_hflip", "matrix_transpose"):
        shown = np.asarray(Image.open(real_data / "odd_inputs" / f"{name}.frame10.png").convert("RGB"))
        assert abs(read_frames(real_data / "odd_inputs" / f"{name}.mp4", [10])[0].astype(int) - shown).mean() < 2


def test_a_function_of_each_frame_is_kept_in_its_place_and_called_once(tmp_path, clip):
    path = write_video(tmp_path / "a.avi", numbered_frames(20), codec="mpeg4")
    for file, wanted in ((clip, [40, 3, 3, 69]), (path, [19, 0, 5, 5])):
        seen = Mock(side_effect=lambda frame: frame.mean(axis=(0, 1)))
        assert np.array_equal(read_frames(file, wanted, each=seen), read_frames(file, wanted).mean(axis=(1, 2)))
        assert [call.args[0].shape for call in seen.call_args_list] == [(96, 128, 3)] * 3
    with pytest.raises(ValueError, match=r"^my own mistake$"):  # which is not the file's
        read_frames(clip, [0], each=Mock(side_effect=ValueError("my own mistake")))


def test_wrong_indices(clip):
    with pytest.raises(IndexError, match=r"clip\.mp4: frames 0\.\.70 asked for, but it has 0\.\.69"):
        read_frames(clip, [0, 70])
    with pytest.raises(IndexError):
        read_frames(clip, [-1])
    for nonsense in ([], np.array([0.5]), np.array([[1, 2]])):
        with pytest.raises(ValueError, match="expected a list of frame numbers"):
            read_frames(clip, nonsense)


def _audio_only(path):
    with av.open(str(path), "w") as file:
        stream = file.add_stream("aac", rate=8000, layout="mono")
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        sound.sample_rate = 8000
        for packet in [*stream.encode(sound), *stream.encode(None)]:
            file.mux(packet)


def _song(path):
    """MP3 with a cover: an ID3 tag that holds a JPEG."""
    with av.open(str(path), "w", format="mp3") as file:
        sound, cover = file.add_stream("mp3", rate=44100), file.add_stream("mjpeg")
        cover.width, cover.height, cover.pix_fmt = 32, 32, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        image = av.VideoFrame.from_ndarray(np.full((32, 32, 3), 90, np.uint8), format="rgb24")
        tone = av.AudioFrame.from_ndarray(np.zeros((1, 1152), np.int16), format="s16p", layout="mono")
        tone.sample_rate = 44100
        file.mux([*cover.encode(image), *cover.encode(None)])
        file.mux([packet for _ in range(50) for packet in sound.encode(tone)])


@pytest.mark.parametrize(
    ("make", "cause"),
    [
        (lambda path: None, "there is no such file"),
        (lambda path: path.touch(), "the file is empty"),
        (lambda path: path.write_text("I am not a video, whatever my name says.\n" * 50), "Invalid data"),
        (lambda path: path.write_bytes(bytes(range(256)) * 40), "Invalid data"),
        (_audio_only, "no video stream"),
        (_song, "it has no video stream, only a cover picture"),
    ],
)
def test_what_is_no_video_gives_one_clear_line(tmp_path, capfd, make, cause):
    path = tmp_path / "clip [1].mp4"
    make(path)
    with pytest.raises(DecodeError) as caught:
        read_frames(path, [0])
    error = caught.value
    assert (error.path, error.decoder) == (str(path), "pyav")
    assert cause in error.cause
    assert str(error).startswith(f"{path}: cannot be decoded by pyav: ")
    assert "\n" not in str(error)
    assert capfd.readouterr() == ("", "")  # FFmpeg's own complaints stay out of the terminal


def test_a_text_is_no_video(tmp_path):
    """FFmpeg draws one as a terminal would."""
    (tmp_path / "notes.txt").write_text("hello world\nthis is text\n" * 20)
    with pytest.raises(DecodeError, match="by pyav: it is a text"):
        read_frames(tmp_path / "notes.txt", [0])


def test_sound_with_a_cover_is_no_video_for_either_decoder(real_data):
    for decoder in ("pyav", "decord"):
        with pytest.raises(DecodeError, match="it has no video stream, only a cover picture"):
            read_frames(real_data / "odd_inputs" / "audio_cover.m4a", [0], decoder)


def test_error_survives_pickling_and_a_loader(tmp_path):
    error = DecodeError(tmp_path / "a.mp4", "pyav", "the file is empty")
    copy = pickle.loads(pickle.dumps(error))
    assert (str(copy), copy.path, copy.cause) == (str(error), error.path, error.cause)
    text = f"Caught DecodeError in worker 0.\nTraceback:\n  ...\nmote.datasets.decoding.errors.DecodeError: {error}\n"
    assert str(DecodeError(text)) == str(error)


@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.9, 0.99])
@pytest.mark.parametrize("name", ["closed groups", "AVI with B", "open groups, mkv", "transport stream"])
def test_truncated_file_gives_right_frames_or_an_error(tmp_path, name, share):
    file, options = FILES[name]
    if file.endswith("mp4"):
        options = {**options, "container": {"movflags": "faststart"}}
    path = write_video(tmp_path / file, numbered_frames(NUM_FRAMES), **options)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    asked = []

    def spread(length):
        asked[:] = np.linspace(0, length - 1, 8).astype(int).tolist()
        return asked

    try:
        frames = read_frames(path, spread)
    except DecodeError as error:
        assert str(path) in str(error)
    else:
        found = numbers(frames)
        assert found[:-1] == asked[:-1]
        assert 0 <= found[-1] - asked[-1] <= 2  # the last frame kept may have lost the B-frames shown before it


def test_truncated_mp4_is_named_as_such(clip, tmp_path):
    path = tmp_path / "cut.mp4"
    path.write_bytes(clip.read_bytes()[: clip.stat().st_size * 2 // 3])
    with pytest.raises(DecodeError, match="cut off or damaged"):
        read_frames(path, [0])


def test_an_unknown_decoder_is_refused(clip):
    with pytest.raises(ValueError, match="unknown decoder 'opencv': choose from pyav, decord"):
        read_frames(clip, [0], decoder="opencv")


def test_every_odd_video_gives_frames_or_one_line(real_data):
    failed = []
    for path in sorted((real_data / "odd_videos").iterdir()):
        try:
            frames = read_frames(path, lambda length: np.arange(4) * length // 4)
        except DecodeError as error:
            failed.append(path.name)
            assert "\n" not in str(error)
        else:
            assert frames.shape[0] == 4
            assert frames.std() > 5 or path.name == "decord_unordered.mov"  # which is white indeed
    assert failed == ["decord_corrupted.mp4"]


def test_real_avi_files_are_read_exactly(real_data):
    """Against decoding from the start, frame by frame: the plain loop that numbers frames by definition."""
    for path in sorted((real_data / "hmdb51_5clips").glob("*.avi"))[:3]:
        with av.open(str(path)) as file:
            every = [frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)]
        indices = np.array([0, 1, 2, len(every) // 3, len(every) // 2, len(every) - 1])
        assert np.array_equal(read_frames(path, indices), np.stack([every[i] for i in indices]))


def test_counted_files_are_read_once_unless_they_are_large(tmp_path, monkeypatch):
    """Their packets are kept between counting and decoding, up to a size; the frames are the same either way."""
    frames = numbered_frames(NUM_FRAMES)
    path = write_video(tmp_path / "a.avi", frames, codec="mpeg4", b_frames=2)
    opened = []
    monkeypatch.setattr(av, "open", lambda *a, open=av.open, **k: opened.append(a) or open(*a, **k))
    with open_video(path) as video:
        kept = video.read([3, 40, 69])
        assert len(opened) == 1
        assert np.array_equal(video.read([3, 40, 69]), kept)
        assert len(opened) == 2
    monkeypatch.setattr(pyav_video, "HELD", path.stat().st_size // 2)
    assert np.array_equal(read_frames(path, [3, 40, 69]), kept)
    assert len(opened) == 4
    assert numbers(kept) == [3, 40, 69]


def test_reading_keeps_no_memory(tmp_path):
    """Bytes that the allocator has given out, after 80 clips and after 160: PyAV's own `decode` keeps 150 a clip."""
    library = ctypes.CDLL(None)
    if not hasattr(library, "mallinfo2"):
        pytest.skip("asks glibc")
    fields = [("values", ctypes.c_size_t * 10)]  # 4: bytes in mappings of their own, 7: in the heap
    library.mallinfo2.restype = type("", (ctypes.Structure,), {"_fields_": fields})
    frames = np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3), dtype=np.uint8)
    write_video(tmp_path / "a.mp4", frames)
    write_video(tmp_path / "b.avi", frames, codec="mpeg4")

    def used() -> int:
        for path in [tmp_path / "a.mp4", tmp_path / "b.avi"] * 40:
            read_frames(path, [0, 3, 5])
        gc.collect()
        found = library.mallinfo2().values
        return found[4] + found[7]

    used()
    before = used()
    assert used() - before < 80 * 40


def test_side_data_that_pyav_does_not_know_is_no_error(tmp_path):
    """EXIF, as cameras write it into Motion JPEG."""
    exif, image = Image.Exif(), np.full((32, 48, 3), 30, np.uint8)
    image[:16, :16] = 230
    exif[0x0112] = 6  # to be turned clockwise
    Image.fromarray(image).save(tmp_path / "a.jpg", exif=exif, quality=95)
    frame = read_frames((tmp_path / "a.jpg").rename(tmp_path / "a.mjpeg"), [0])[0]
    assert frame.shape == (48, 32, 3) and abs(frame.astype(int) - np.rot90(image, -1)).mean() < 4


@pytest.mark.parametrize("name", ["closed groups", "open groups, mkv", "MPEG-4 with B", "AVI", "transport stream"])
def test_times_are_those_at_which_frames_are_shown(tmp_path, name):
    file, options = FILES[name]
    with open_video(write_video(tmp_path / file, numbered_frames(30), **options)) as video:
        assert video.times == pytest.approx(np.arange(30) / 25, abs=1e-3)
        assert video.end == pytest.approx(30 / 25, abs=1e-3)


def test_times_that_the_frames_contradict_are_not_believed(tmp_path):
    file, options = FILES["wrong times"]
    with open_video(write_video(tmp_path / file, numbered_frames(30), **options)) as video:
        with contextlib.suppress(DecodeError):
            video.read(range(30))
        assert len(video.times) == video.num_frames
        assert np.diff(video.times) == pytest.approx(1 / video.fps)


def test_images_have_no_times(tmp_path):
    Image.fromarray(numbered_frames(1)[0]).save(tmp_path / "1.png")
    with open_video(tmp_path) as video, pytest.raises(DecodeError, match="nothing in it says when"):
        video.times  # noqa: B018

"""What counts in a folder, and what is left out with a word."""

import shutil

import av
import numpy as np
import pytest
from PIL import Image
from video_files import numbered_frames, numbers, write_video

from mote.datasets.decoding.decode import read_frames
from mote.datasets.lists.folders import IMAGE_SUFFIXES, VIDEO_SUFFIXES, find_clips, search
from mote.datasets.lists.manifest import read_manifest
from mote.datasets.prepare.videos import Videos
from mote.datasets.sources import find_sources


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return write_video(tmp_path_factory.mktemp("clip") / "clip.mp4", numbered_frames(5), codec="mpeg4")


def animated(path, **options):
    images = [Image.fromarray(frame) for frame in numbered_frames(5)]
    images[0].save(path, save_all=True, append_images=images[1:], **options)


def muxed(path, format, codec):
    with av.open(str(path), "w", format=format) as file:
        stream = file.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 128, 96, "yuv420p"
        for frame in numbered_frames(5):
            file.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        file.mux(stream.encode(None))


def test_whatever_the_decoder_opens_counts(tmp_path, clip):
    """By suffix, and where that says nothing, by opening it; read as what it is."""
    for name in ("a.MP4", "b.dat", "c", "d.foo"):
        shutil.copy(clip, tmp_path / name)
    formats = {"asf": "mpeg4", "avi": "mpeg4", "f4v": "libx264", "mxf": "mpeg2video", "nut": "mpeg4"}
    for suffix, codec in formats.items():
        muxed(tmp_path / f"e.{suffix}", suffix, codec)
    muxed(tmp_path / "f.divx", "avi", "mpeg4")
    muxed(tmp_path / "g.y4m", "yuv4mpegpipe", "rawvideo")
    animated(tmp_path / "h.gif")
    animated(tmp_path / "i.png")
    found = search(tmp_path)
    assert len(found.files) == 13 and found.left_out == []
    assert found.files == sorted(tmp_path.iterdir()) == find_clips(tmp_path)
    for file in found.files:
        assert numbers(read_frames(file, lambda length: [0, length - 1])) == [0, 4], file


def test_what_is_no_video_is_left_out_counted_and_named(tmp_path, clip, recwarn):
    shutil.copy(clip, tmp_path / "a.mp4")
    for name in (".hidden/b.mp4", "c.jpg", "d.png", "noname"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (8, 8)).save(tmp_path / name, format="jpeg" if "png" not in name else "png")
    shutil.copy(clip, tmp_path / ".e.mp4")
    for name in ("f.txt", "g.nfo", "h.m3u8", "i.lst"):
        text = "#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\na.mp4\n#EXT-X-ENDLIST\n"
        (tmp_path / name).write_text(
            {"h.m3u8": text, "i.lst": "ffconcat version 1.0\nfile a.mp4\n"}.get(name, "x\n" * 99)
        )
    (tmp_path / "j.mp4").symlink_to(tmp_path / "gone.mp4")
    (tmp_path / "again").symlink_to(tmp_path)
    assert search(tmp_path).files == [tmp_path / "a.mp4"] == find_clips(tmp_path) == find_sources([tmp_path])
    message = str(recwarn.pop(UserWarning).message)
    assert message.startswith(f"{tmp_path}: 8 left out, which are no videos: 1 ") and message.endswith("such as j.mp4")
    assert "1 link to nothing" in message
    assert [file.name for file in search(tmp_path, IMAGE_SUFFIXES).files] == ["c.jpg", "d.png", "noname"]
    both = search(tmp_path, IMAGE_SUFFIXES | VIDEO_SUFFIXES).files
    assert [file.name for file in both] == ["a.mp4", "c.jpg", "d.png", "noname"]
    assert Videos(tmp_path).find("j.avi") is None
    with pytest.raises(FileNotFoundError, match=r"j\.mp4: this link leads to nothing$"):
        find_sources([tmp_path / "j.mp4"])


def test_sound_is_left_out_and_gifs_are_videos(real_data, tmp_path):
    odd = real_data / "odd_inputs"
    assert [file.name for file in find_clips(odd / "gifs")] == ["clip1.gif", "clip2.gif", "clip3.gif"]
    (tmp_path / "songs").mkdir()
    shutil.copy(odd / "audio_cover.m4a", tmp_path / "songs")
    shutil.copy(odd / "gifs" / "clip1.gif", tmp_path / "songs")
    with pytest.warns(match=r"1 left out, which are no videos: 1 \.m4a; such as songs/audio_cover\.m4a"):
        assert [record.path.name for record in read_manifest(tmp_path)] == ["clip1.gif"]


def test_without_videos_folders_of_images_are_clips(tmp_path):
    for name in ("b/1.png", "a/c/1.jpg", "a/c/2.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / name)
    assert find_clips(tmp_path) == [tmp_path / "a" / "c", tmp_path / "b"]
    assert find_clips(tmp_path / "b") == [tmp_path / "b"]
    (tmp_path / "clip.mp4").touch()
    with pytest.warns(match=r"3 left out, which are no videos: 2 \.jpg, 1 \.png"):
        assert find_clips(tmp_path) == [tmp_path / "clip.mp4"]

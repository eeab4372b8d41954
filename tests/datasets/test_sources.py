"""Which inputs a user means: found and checked before anything slow, each once, or one line that says what to do."""

import io
import os
import shutil
import sys
import tarfile
from pathlib import Path

import fsspec
import numpy as np
import pytest
from PIL import Image
from served_files import served
from video_files import numbered_frames, numbers, write_video

from mote.datasets.decoding.decode import read_frames
from mote.datasets.sources import find_sources


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    return write_video(tmp_path_factory.mktemp("clip") / "clip.mp4", numbered_frames(5), codec="mpeg4")


@pytest.fixture
def folder(tmp_path, clip) -> Path:
    for name in ("a.mp4", "b/c.mp4", ".hidden/d.mp4", "b/.e.mp4"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(clip, tmp_path / name)
    return tmp_path


def packed(path: Path, clip: Path, names: list[str], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as tar:
        for name in names:
            tar.add(clip, name)
    return path


def piped(monkeypatch, content: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))


def test_files_and_folders_in_their_order(folder):
    (folder / "notes.txt").write_text("x")
    with pytest.warns(match=r"1 left out, which are no videos: 1 \.txt"):
        assert find_sources([folder]) == [folder / "a.mp4", folder / "b/c.mp4"]
    assert find_sources([str(folder / "b"), folder / "a.mp4"]) == [folder / "b/c.mp4", folder / "a.mp4"]
    assert find_sources([folder / "b" / ".e.mp4"]) == [folder / "b" / ".e.mp4"]  # hidden, but named


def test_what_is_there_twice_is_answered_once_and_that_is_said(folder, monkeypatch):
    monkeypatch.chdir(folder)
    (folder / "list.txt").write_text("a.mp4\n./b/../a.mp4\nhttps://u:pw123@host/x.mp4?key=secret\n")
    with pytest.warns(match=r"^2 more than once among the inputs, such as .*a\.mp4; each is answered once$"):
        found = find_sources([folder / "b", "a.mp4", "a.mp4", folder / "b/c.mp4"])
    assert found == [folder / "b/c.mp4", Path("a.mp4")]
    with pytest.warns(match=r"^1 more than once .* such as .*a\.mp4; each"):
        assert find_sources(["list.txt"]) == [Path("a.mp4"), "https://u:pw123@host/x.mp4?key=secret"]
    address = "https://u:pw123@host/x.mp4?key=secret"
    with pytest.warns(match=r"such as https://host/x\.mp4; each is answered once$"):
        assert find_sources([address, address]) == [address]


def test_a_text_list_is_relative_to_its_folder(folder, clip):
    shutil.copy(clip, folder / "b" / " two  words .mp4")
    shutil.copy(clip, folder / "b" / "#1.mp4")
    lines = ["../a.mp4", "", " two  words .mp4", "#1.mp4  ", str(folder / "b" / "c.mp4"), "memory://x.mp4"]
    (folder / "b" / "list.txt").write_bytes(b"\xef\xbb\xbf" + "\r\n".join(lines).encode())
    expected = ["b/../a.mp4", "b/ two  words .mp4", "b/#1.mp4", "b/c.mp4"]
    found = [*(folder / name for name in expected), "memory://x.mp4"]
    assert find_sources([folder / "b" / "list.txt"]) == found
    (folder / "b" / "list.csv").write_text('Label,Path\n1,"../a.mp4"\n2,memory://x.mp4\n')
    assert find_sources([folder / "b" / "list.csv"]) == [found[0], "memory://x.mp4"]


def test_the_standard_input_is_a_list_from_here(folder, monkeypatch):
    monkeypatch.chdir(folder)
    piped(monkeypatch, b"a.mp4\nb/c.mp4\n")
    with pytest.warns(match="1 more than once among the inputs, such as -;"):
        assert find_sources(["-", "-"]) == [Path("a.mp4"), Path("b/c.mp4")]
    shutil.copy("a.mp4", "new\nline.mp4")
    piped(monkeypatch, b"new\nline.mp4\0a.mp4\0")  # find -print0
    assert find_sources(["-"]) == [Path("new\nline.mp4"), Path("a.mp4")]
    piped(monkeypatch, b" \n\n")
    with pytest.raises(ValueError, match=r"^-: it lists no video; pipe paths into mote, one a line$"):
        find_sources(["-"])


def test_names_that_are_no_utf_8_survive(folder, clip, monkeypatch):
    name = b"caf\xe9 \xff.mp4"
    try:
        shutil.copy(clip, os.path.join(os.fsencode(folder / "b"), name))
    except OSError:
        pytest.skip("this file system takes UTF-8 only")
    (folder / "list.txt").write_bytes(b"b/" + name + b"\n")
    (folder / "list.csv").write_bytes(b"path,label\nb/" + name + b",1\n")
    piped(monkeypatch, os.fsencode(folder / "b") + b"/" + name)
    packed(folder / "x.tar", clip, [os.fsdecode(name)])
    for place in ("list.txt", "list.csv", "-", "b", "x.tar"):
        found = find_sources([folder / place if place != "-" else "-"])[-1]
        assert os.fsencode(found).endswith(name)
        assert numbers(read_frames(found, [4])) == [4]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "l.txt",
            "a.mp4\nx.mp4\n\ny z.mp4\n",
            r"l\.txt: 2 of 3 files are not there, such as x\.mp4 in line 2; ",
        ),
        ("l.txt", "a.mp4 3\nb/c.mp4 0\n", r"l\.txt: 2 of 2 files .* line 1; a list for mote predict has no labels$"),
        ("l.txt", "", r"l\.txt: it lists no video$"),
        ("l.csv", "path,label\n", r"l\.csv: it lists no video$"),
        ("l.csv", "", r"l\.csv:1: expected a header with one column path, got ''$"),
        ("l.csv", "file,label\na.mp4,1\n", r"l\.csv:1: expected a header with one column path, got 'file,label'$"),
        ("l.csv", "path,label\na.mp4\n", r"l\.csv:2: expected 2 cells, and a path that is not empty$"),
        ("l.csv", "path,label\n,1\n", r"l\.csv:2: expected 2 cells, and a path that is not empty$"),
        ("l.txt", "l.txt\n", r"l\.txt:1: a list in a list; give .*l\.txt beside it$"),
        ("l.txt", "\ufeffa.mp4".encode("utf-16").decode("latin-1"), r"l\.txt: not a text file in UTF-8; convert it$"),
    ],
)
def test_lists_that_cannot_be_used(folder, name, content, message):
    (folder / name).write_bytes(content.encode("latin-1"))
    with pytest.raises((ValueError, FileNotFoundError), match=message) as caught:
        find_sources([folder / name])
    assert "\n" not in str(caught.value)


def test_every_video_of_an_archive(folder, clip):
    names = ["one/1.mp4", "1.cls", "./two.avi", ".hidden.mp4", "one/../../3.mp4", "notes.md"]
    archive = packed(folder / "b" / "x.TAR".lower(), clip, names)
    with pytest.warns(match=r"x\.tar: 1 left out, which are no videos; such as notes\.md$"):
        found = find_sources([archive])
    assert [Path(place).name for place in found] == ["1.mp4", "two.avi", "3.mp4"]
    assert all("/.." not in str(place) for place in found)
    assert all(np.array_equal(read_frames(place, [0, 4]), read_frames(clip, [0, 4])) for place in found)
    (folder / "list.txt").write_text(f"{found[1].relative_to(folder)}\na.mp4\n{found[0]}\n")
    assert find_sources([folder / "list.txt"]) == [found[1], folder / "a.mp4", found[0]]
    (folder / "list.txt").write_text("b/x.tar/@9999999+5/a.mp4\n")
    with pytest.raises(FileNotFoundError, match="1 of 1 files are not there"):
        find_sources([folder / "list.txt"])


def test_archives_that_cannot_be_used(folder, clip):
    with pytest.raises(FileNotFoundError, match=r"x\.tar: no video in this archive; looked for \.264"):
        find_sources([packed(folder / "x.tar", clip, ["a.txt"])])
    with pytest.raises(ValueError, match=r"y\.tar: not an archive that can be read \(.*\); pack it again as \.tar$"):
        find_sources([packed(folder / "y.tar", clip, ["a.mp4"], "w:gz")])
    with pytest.raises(ValueError, match=r"y\.tar\.gz: a compressed archive; unpack it"):
        find_sources([packed(folder / "y.tar.gz", clip, ["a.mp4"], "w:gz")])
    archive = packed(folder / "z.tar", clip, ["a.mp4", "b.mp4"])
    whole, start = archive.read_bytes(), clip.stat().st_size
    for length in (start + 1700, start + 2200, start + 3000, start + 4000):  # in headers, and in the second video
        archive.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"z\.tar: the archive is cut off; copy it again$"):
            find_sources([archive])


def test_places_that_are_not_there(folder):
    (folder / "link.mp4").symlink_to(folder / "gone.mp4")
    (folder / "empty").mkdir()
    for name, message in (
        ("none.mp4", "none.mp4: no such video file or folder"),
        ("none.txt", "none.txt: no such video file or folder"),
        ("link.mp4", "link.mp4: this link leads to nothing"),
        ("empty", "empty: no video in this folder; looked for"),
    ):
        with pytest.raises(FileNotFoundError, match=message):
            find_sources([folder / "a.mp4", folder / name])


def test_images(folder, monkeypatch):
    for name in ("1.png", "2.jpg"):
        Image.new("RGB", (8, 8)).save(folder / "b" / name)
    (folder / "list.txt").write_text("b/2.jpg\nb/1.png\n")
    assert find_sources([folder / "list.txt"], "image") == [folder / "b/2.jpg", folder / "b/1.png"]
    with pytest.warns(match="1 left out, which are no images"):
        assert find_sources([folder / "b"], "image") == [folder / "b/1.png", folder / "b/2.jpg"]
    (folder / "list.txt").write_text("https://u:pw123@host/a.png\n")
    for place in (folder / "list.txt", "https://u:pw123@host/a.png"):
        with pytest.raises(ValueError, match=r"^https://host/a\.png: images are read from files only; copy it here$"):
            find_sources([place], "image")
    with pytest.raises(ValueError, match="images are not read from archives; unpack it"):
        find_sources([packed(folder / "x.tar", folder / "b" / "1.png", ["a.png"])], "image")


def test_addresses_stay_text_and_need_their_packages(monkeypatch):
    found = ["https://host/a.mp4", "rtsp://host/1", "memory://none/a.mp4"]
    assert find_sources(found) == found
    with pytest.raises(ValueError, match=r"https://host/l\.txt: lists are read from files; copy it here, or pipe it"):
        find_sources(["https://host/l.txt?key=1"])

    def missing(kind):
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(fsspec, "get_filesystem_class", missing)
    with pytest.raises(ValueError, match=r"addresses with s3:// need another package; pip install 's3fs'"):
        find_sources(["s3://bucket/a.mp4"])


def test_folders_of_a_bucket(clip):
    store = fsspec.filesystem("memory")
    for name in ("b.mp4", "a/c.avi", "a/.hidden.mp4", "notes.txt"):
        store.pipe(f"/bucket/videos/{name}", clip.read_bytes())
    expected = ["memory:///bucket/videos/a/c.avi", "memory:///bucket/videos/b.mp4"]
    for place in ("memory://bucket/videos/", "memory://bucket/videos"):
        with pytest.warns(match="1 left out, which are no videos by their suffix"):
            found = find_sources([place])
        assert found == expected
    assert numbers(read_frames(found[0], [3])) == [3]
    with pytest.raises(FileNotFoundError, match="memory://bucket/none/: no video in this folder; looked for"):
        find_sources(["memory://bucket/none/"])


def test_an_archive_at_an_address(folder, clip, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    packed(folder / "x.tar", clip, ["a.mp4", "b.mp4"])
    with served(folder) as server:
        found = find_sources([f"{server.address}/x.tar"])
        assert [place.rpartition("/")[2] for place in found] == ["a.mp4", "b.mp4"]
        assert np.array_equal(read_frames(found[1], [0, 4]), read_frames(clip, [0, 4]))
        with pytest.raises(ValueError, match=r"/none\.tar: there is no such file \(HTTP 404\); check the address"):
            find_sources([f"{server.address}/none.tar"])
        with pytest.raises(ValueError, match=r"an archive with \? in its address is not read in parts"):
            find_sources([f"{server.address}/x.tar?key=secret"])

"""Videos at addresses are the videos in files, to the bit, or one line that says why not and holds no secret."""

import os
import pickle
import re
import shutil
import socket
import tarfile
import tempfile
import warnings
from pathlib import Path

import fsspec
import numpy as np
import pytest
from PIL import Image
from served_files import served
from video_files import FILES, numbered_frames, numbers, write_video

from mote.datasets.cache.file_hashes import FileHashes
from mote.datasets.decoding import addresses, network_errors
from mote.datasets.decoding.addresses import address_key
from mote.datasets.decoding.bounded import Bounded
from mote.datasets.decoding.decode import open_video, read_frames
from mote.datasets.decoding.errors import DecodeError
from mote.datasets.decoding.remote import RemoteFile, frame_data
from mote.datasets.lists.manifest import Record
from mote.datasets.video import VideoDataset

KINDS = [name for name in FILES if "HEVC" not in name]  # whose encoder is slow to start


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """One file of every kind, and an MP4 of 3 MB with its index behind."""
    folder = tmp_path_factory.mktemp("served")
    for name in KINDS:
        file, options = FILES[name]
        write_video(
            folder / f"{name.replace(' ', '-').replace(',', '')}{Path(file).suffix}", numbered_frames(70), **options
        )
    noise = np.random.default_rng(0).integers(0, 256, (50, 96, 160, 3), dtype=np.uint8)
    write_video(folder / "long.mp4", np.tile(noise, (5, 1, 1, 1)), options={"preset": "ultrafast", "crf": "15"})
    Image.fromarray(numbered_frames(8)[5]).save(folder / "image.png")
    return folder


@pytest.fixture
def server(folder, tmp_path):
    """The server of a copy of the folder, which tests may change."""
    shutil.copytree(folder, tmp_path / "served")
    with served(tmp_path / "served") as state:
        yield state


@pytest.mark.parametrize("ranges", [True, False])
def test_every_kind_of_file_is_equal_to_the_bit(server, ranges):
    server.ranges = ranges
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        for file in sorted(server.folder.iterdir()):
            if file.suffix in (".mp4", ".avi", ".mkv", ".ts", ".mpg", ".webm"):
                wanted = [69, 0, 33, 33, 34]
                found = read_frames(f"{server.address}/{file.name}", wanted)
                assert np.array_equal(found, read_frames(file, wanted)), file.name
    assert any("gives no parts of files; each is downloaded whole" in str(one.message) for one in said) != ranges


def test_length_rate_and_key_frames_are_those_of_the_file(server):
    for name in ("closed-groups.mp4", "open-groups.mp4", "open-groups-mkv.mkv", "AVI.avi", "VP9.webm"):
        with open_video(f"{server.address}/{name}") as there, open_video(server.folder / name) as here:
            assert (there.num_frames, there.fps, there.keyframes) == (here.num_frames, here.fps, here.keyframes)
            assert numbers(there.read([60, 2])) == numbers(here.read([60, 2])) == [60, 2]
    wanted = {"near_keyframes": True}
    name = "closed-groups.mp4"
    assert np.array_equal(
        read_frames(f"{server.address}/{name}", [5, 31], **wanted), read_frames(server.folder / name, [5, 31], **wanted)
    )


def test_eight_frames_of_a_long_mp4_need_a_small_part_of_it(server):
    size = (server.folder / "long.mp4").stat().st_size
    assert size > 2_500_000
    wanted = np.arange(8) * 250 // 8
    found = read_frames(f"{server.address}/long.mp4", wanted)
    assert np.array_equal(found, read_frames(server.folder / "long.mp4", wanted))
    assert server.sent < 0.5 * size


def test_nothing_is_fetched_twice(server):
    """A counted file is read to count its frames, and again to decode them."""
    with RemoteFile(f"{server.address}/AVI-with-B.avi") as file:
        whole = file.readall()
        file.seek(0)
        assert file.read() == whole == (server.folder / "AVI-with-B.avi").read_bytes()
        assert file.fetched == len(whole)
    server.sent = 0
    with open_video(f"{server.address}/AVI-with-B.avi") as video:
        for _ in range(2):
            assert numbers(video.read([3, 40])) == [3, 40]
    assert server.sent == len(whole)


def test_a_video_in_an_archive_is_read_by_its_part(server):
    with tarfile.open(server.folder / "a.tar", "w") as tar:
        for name in ("long.mp4", "AVI.avi", "closed-groups.mp4"):
            tar.add(server.folder / name, name)
    with tarfile.open(server.folder / "a.tar") as tar:
        members = {member.name: member for member in tar.getmembers()}
    for name in ("AVI.avi", "closed-groups.mp4"):
        place = f"a.tar/@{members[name].offset_data}+{members[name].size}/{name}"
        found = read_frames(f"{server.address}/{place}", [69, 3])
        assert np.array_equal(found, read_frames(server.folder / name, [69, 3]))
    with pytest.raises(DecodeError, match="its archive is cut off"):
        read_frames(f"{server.address}/a.tar/@{10**8}+5/a.mp4", [0])


def test_an_image_is_a_clip_of_one_frame(server):
    found = read_frames(f"{server.address}/image.png?size=1", [0, 0])
    assert np.array_equal(found[1], np.asarray(Image.open(server.folder / "image.png")))


def test_files_of_fsspec_memory(folder, tmp_path):
    store = fsspec.filesystem("memory")
    for name in ("closed-groups.mp4", "AVI-with-B.avi"):
        store.pipe(f"/videos/{name}", (folder / name).read_bytes())
        found = read_frames(f"memory://videos/{name}", [69, 0, 33])
        assert np.array_equal(found, read_frames(folder / name, [69, 0, 33]))
    before = address_key("memory://videos/AVI-with-B.avi")
    assert before == address_key("memory://videos/AVI-with-B.avi") != address_key("memory://videos/closed-groups.mp4")
    with open_video("memory://videos/AVI-with-B.avi") as video:
        store.pipe("/videos/AVI-with-B.avi", (folder / "AVI-with-B.avi").read_bytes())
        with pytest.raises(DecodeError, match="it changed while it was read; read it again"):
            video.read([0])
    assert address_key("memory://videos/AVI-with-B.avi") != before
    with pytest.raises(DecodeError, match="there is no such file; check the address"):
        read_frames("memory://videos/none.mp4", [0])
    with pytest.raises(DecodeError, match="it is a folder; end its address with /"):
        read_frames("memory://videos", [0])


def test_parts_are_asked_for_by_name(folder, monkeypatch):
    """The third argument of `cat_file` is a version in s3fs, where a part starts in other file systems."""
    store, parts = fsspec.filesystem("memory"), type(fsspec.filesystem("memory")).cat_file
    store.pipe("/videos/f.mp4", (folder / "closed-groups.mp4").read_bytes())

    def cat_file(self, path, version_id=None, start=None, end=None):
        assert version_id is None
        return parts(self, path, start, end)

    monkeypatch.setattr(type(store), "cat_file", cat_file)
    found = read_frames("memory://videos/f.mp4", [69, 0])
    assert np.array_equal(found, read_frames(folder / "closed-groups.mp4", [69, 0]))


def test_a_dataset_reads_addresses_in_processes_of_its_own(server):
    """As `mote predict` does: forked after this process has used the network itself."""
    file = server.folder / "closed-groups.mp4"
    assert numbers(read_frames(f"{server.address}/{file.name}", [7])) == [7]
    options = {"num_frames": 4, "size": 32, "train": False, "on_error": "mark"}
    names = [file.name, "none.mp4?X-Amz-Signature=secret"]
    dataset = VideoDataset([Record(f"{server.address}/{name}", 0) for name in names], timeout=60.0, **options)
    expected = VideoDataset([Record(file, 0)], **options)
    assert dataset[0]["frames"].equal(expected[0]["frames"])
    missing = "there is no such file (HTTP 404); check the address"
    assert dataset[1]["cause"] == f"{server.address}/none.mp4\t{missing}"


@pytest.mark.parametrize(
    ("status", "cause"),
    [
        (404, "there is no such file (HTTP 404); check the address"),
        (403, "access is refused (HTTP 403); check the address and the credentials that fsspec finds"),
        (500, "the server answers HTTP 500; try again later"),
    ],
)
def test_what_a_server_refuses_is_one_line_without_secrets(server, monkeypatch, status, cause):
    monkeypatch.setattr(network_errors, "PAUSES", (0.0,))
    server.status = status
    host = server.address.removeprefix("http://")
    with pytest.raises(DecodeError) as caught:
        read_frames(f"http://user:pass-word@{host}/x.mp4?X-Amz-Signature=topsecret&b=1#part", [0])
    assert str(caught.value) == f"http://{host}/x.mp4: cannot be decoded by pyav: {cause}"
    assert caught.value.__suppress_context__ and caught.value.__cause__ is None  # for --traceback
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)
    assert server.requests[0][2].startswith("Basic ")  # it was used nevertheless
    assert len(server.requests) == (2 if status == 500 else 1)


def test_hosts_that_cannot_be_reached(monkeypatch):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"http://u:pw123@127.0.0.1:{free.getsockname()[1]}/x.mp4?key=topsecret"
        with pytest.raises(DecodeError, match=r"/x\.mp4: .*the host cannot be reached \(Connection refused\); check"):
            read_frames(address, [0])
        monkeypatch.setattr(addresses, "SILENCE", 0.2)
        monkeypatch.setattr(network_errors, "SILENCE", 0.2)
        free.listen()  # and answers nothing
        with pytest.raises(DecodeError, match=r"the host does not answer within 0\.2 s; "):
            read_frames(address, [0])


@pytest.mark.parametrize(
    ("address", "cause"),
    [
        ("s3://bucket/a.mp4", r"addresses with s3:// need another package; pip install 's3fs'"),
        ("gs://bucket/a.mp4", r"addresses with gs:// need another package; pip install 'gcsfs'"),
        ("xyz://a/b.mp4", r"xyz:// is no kind of address that fsspec knows; use https, s3, gs or hf"),
        ("rtsp://u:pw123@camera/1", r"^rtsp://camera/1: .*it is a live stream, whose frames have no numbers; "),
        ("http://", r"it is no address of a file; check it"),
        ("http://[::1", r"Invalid IPv6 URL; check the address"),
    ],
)
def test_addresses_that_cannot_be_read(address, cause, monkeypatch):
    def missing(kind, known=fsspec.get_filesystem_class):
        if kind in ("s3", "gs"):
            raise ImportError("Install something")
        return known(kind)

    monkeypatch.setattr(fsspec, "get_filesystem_class", missing)
    with pytest.raises(DecodeError, match=cause):
        read_frames(address, [0])


def test_http_without_the_extra_names_it(monkeypatch):
    def missing(_):
        raise ImportError('HTTPFileSystem requires "requests" and "aiohttp" to be installed')

    monkeypatch.setattr(fsspec, "get_filesystem_class", missing)
    with pytest.raises(
        DecodeError, match=r"addresses with https:// need another package; pip install 'mote-video\[remote\]'"
    ):
        read_frames("https://host/a.mp4", [0])


def test_an_address_as_a_path_and_another_decoder_are_refused(server):
    with pytest.raises(DecodeError, match=r"http://host/a\.mp4: give an address as text, not as a Path"):
        read_frames(Path("http://u:pw123@host/a.mp4"), [0])
    with pytest.raises(DecodeError, match=r"by decord: it reads no addresses; take data\.decoder=pyav"):
        read_frames(f"{server.address}/AVI.avi", [0], "decord")


def test_a_connection_that_is_lost_is_taken_up_again(server, monkeypatch):
    monkeypatch.setattr(network_errors, "PAUSES", (0.0, 0.0))
    server.cut, server.cuts = 100_000, 2
    assert np.array_equal(
        read_frames(f"{server.address}/long.mp4", [249]), read_frames(server.folder / "long.mp4", [249])
    )
    server.cuts = 99
    with pytest.raises(DecodeError, match=r"long\.mp4: .*the connection was lost while it was read; try again later"):
        read_frames(f"{server.address}/long.mp4", [249])


@pytest.mark.filterwarnings("ignore:.*gives no parts of files")
def test_a_download_that_is_cut_off_is_no_shorter_video(server, monkeypatch):
    monkeypatch.setattr(network_errors, "PAUSES", ())
    server.ranges, server.cut, server.cuts = False, 20_000, 9
    with pytest.raises(DecodeError, match="the connection was lost while it was read"):
        read_frames(f"{server.address}/transport-stream.ts", [0])


@pytest.mark.parametrize("marks", [True, False])
def test_a_file_that_changes_between_requests(server, marks):
    """By its ETag, and where there is none by its size."""
    server.marks = marks

    def change(number, file):
        if number == 3:
            file.write_bytes(file.read_bytes()[:-1])

    server.before = change
    with pytest.raises(DecodeError, match="it changed while it was read; read it again when nothing writes to it"):
        read_frames(f"{server.address}/long.mp4", [0, 100, 249])


@pytest.mark.filterwarnings("ignore:.*gives no parts of files")
def test_a_download_of_a_file_that_changes(server):
    server.ranges = False
    server.before = lambda number, file: file.write_bytes(file.read_bytes() + b"x") if number == 2 else None
    with pytest.raises(DecodeError, match="it changed while it was read"):
        read_frames(f"{server.address}/AVI.avi", [0])


@pytest.mark.filterwarnings("ignore:.*gives no parts of files")
def test_a_download_of_unknown_length(server):
    server.ranges = server.length = False
    assert numbers(read_frames(f"{server.address}/AVI.avi", [69])) == [69]


def test_what_does_not_fit_on_the_disk_is_said_before_it_is_fetched(server, monkeypatch):
    usage = shutil.disk_usage(tempfile.gettempdir())._replace(free=2**28 + 1000)
    monkeypatch.setattr(addresses.shutil, "disk_usage", lambda _: usage)
    for ranges in (True, False):
        server.ranges = ranges
        with (
            warnings.catch_warnings(action="ignore"),
            pytest.raises(DecodeError, match=r"do not fit into .*, which has room for 1e-06 GB; make room"),
        ):
            read_frames(f"{server.address}/long.mp4", [0])


def test_pages_live_streams_and_empty_files(server):
    (server.folder / "empty.mp4").touch()
    server.ranges = False
    with warnings.catch_warnings(action="ignore"), pytest.raises(DecodeError, match="the file is empty; check"):
        read_frames(f"{server.address}/empty.mp4", [0])
    server.kind = "text/html; charset=utf-8"
    with pytest.raises(DecodeError, match="it is a page, not a video; give the address of the file itself"):
        read_frames(f"{server.address}/AVI.avi", [0])
    server.kind = "multipart/x-mixed-replace;boundary=x"
    with pytest.raises(DecodeError, match="it is a live stream, whose frames have no numbers"):
        read_frames(f"{server.address}/AVI.avi", [0])


@pytest.mark.parametrize("kind", ["hls", "dash", "concat"])
def test_a_playlist_at_an_address_opens_nothing(server, kind):
    """Neither a file of this machine nor another address."""
    local, other = server.folder / "AVI.avi", f"{server.address}/transport-stream.ts"
    texts = {
        "hls": f"#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\n{other}\n#EXTINF:5,\nfile://{local}\n#EXT-X-ENDLIST\n",
        "dash": f'<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"><Period>'
        f'<AdaptationSet><Representation id="1"><BaseURL>{other}</BaseURL></Representation></AdaptationSet>'
        "</Period></MPD>",
        "concat": f"ffconcat version 1.0\nfile {local}\nfile {other}\n",
    }
    for suffix in ("m3u8", "mp4"):
        (server.folder / f"list.{suffix}").write_text(texts[kind])
        with pytest.raises(DecodeError):
            read_frames(f"{server.address}/list.{suffix}", [0])
    assert {path for path, _, _ in server.requests} == {"/list.m3u8", "/list.mp4"}


def test_the_key_of_an_address_is_that_of_its_version(server, tmp_path):
    name = f"{server.address}/AVI.avi"
    key = address_key(name)
    assert re.fullmatch("[0-9a-f]{64}", key)
    assert address_key(f"{name}?X-Amz-Signature=abc&X-Amz-Date=1") == key != address_key(f"{name}?id=5")
    assert FileHashes(tmp_path / "index")(name) == key
    (server.folder / "AVI.avi").write_bytes((server.folder / "AVI.avi").read_bytes() + b"x")
    assert address_key(name) != key
    server.marks = False
    with pytest.raises(OSError, match="tells no version of it"):
        address_key(name)
    with pytest.raises(OSError, match="there is no such file"):
        address_key(f"{server.address}/none.mp4?key=topsecret")


def test_boxes_of_an_mp4(tmp_path, folder):
    store = fsspec.filesystem("memory")
    fragments = write_video(tmp_path / "f.mp4", numbered_frames(60), container={"movflags": "frag_keyframe+empty_moov"})
    for file in (fragments, folder / "long.mp4"):
        store.pipe(f"/boxes/{file.name}", file.read_bytes())
    with RemoteFile("memory://boxes/f.mp4") as file:
        assert frame_data(file) == []
    assert np.array_equal(read_frames("memory://boxes/f.mp4", [59, 3]), read_frames(fragments, [59, 3]))
    with RemoteFile("memory://boxes/long.mp4") as file:
        [(start, end)] = frame_data(file)
        whole = (folder / "long.mp4").read_bytes()
        assert whole[start - 4 : start] == b"mdat" and end <= len(whole)
        file.hollow = [(start, end)]
        file.seek(start - 3)
        assert file.read(10) == b"dat" and file.read(10) == bytes(10)
        file.hollow = []
        file.seek(start - 3)
        assert file.read(13) == whole[start - 3 : start + 10]


def test_a_process_of_its_own_reads_what_this_one_has_read(server):
    name = f"{server.address}/closed-groups.mp4"
    expected = read_frames(name, [5])
    bounded = Bounded(read_frames, 60.0)
    assert np.array_equal(bounded(name, [5]), expected)
    bounded.close()


@pytest.mark.parametrize("how", ["longer", "replaced", "removed"])
@pytest.mark.parametrize("name", ["closed-groups.mp4", "AVI.avi"])
def test_a_local_file_that_changes_while_it_is_read(folder, tmp_path, name, how):
    path = Path(shutil.copy(folder / name, tmp_path))
    with open_video(path) as video:
        assert numbers(video.read([3])) == [3]
        if how == "longer":
            path.write_bytes(path.read_bytes() + b"more")
        elif how == "replaced":
            os.replace(shutil.copy(path, tmp_path / "other"), path)
        else:
            path.unlink()
        with pytest.raises(DecodeError, match=rf"{name}: .*: it changed while it was read; read it again"):
            video.read([3])

"""The feature cache returns what was put, bit for bit, or nothing: whatever is cut off, damaged, killed or shared."""

import multiprocessing
import os
import pickle
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mote.datasets.cache import feature_cache
from mote.datasets.cache.feature_cache import (
    FILES,
    MARKER,
    FeatureCache,
    Usage,
    cache_size,
    clear,
    entry_key,
    namespace_key,
)
from mote.files.locking import InUseError

SHAPE = (2, 3, 4)
SPACE = namespace_key(weights="w", size=8, frames=3)
WRITER = """
import sys
from mote.datasets.cache.feature_cache import FeatureCache
sys.path.insert(0, sys.argv[1])
from test_feature_cache import SPACE, features, key
first, last, step, *shape = map(int, sys.argv[3:])
with FeatureCache(sys.argv[2], SPACE) as cache:
    print("ready", flush=True)
    sys.stdin.readline()
    for number in range(first, last, step):
        cache.put(key(number), features(number, tuple(shape)))
        print(number, flush=True)
"""


def key(number: int) -> str:
    return entry_key(f"file {number}", [0, 1, 2])


def features(number: int, shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    return np.random.default_rng(number).standard_normal(shape, dtype=np.float32)


def filled(folder: Path, count: int) -> Path:
    with FeatureCache(folder, SPACE) as cache:
        for number in range(count):
            cache.put(key(number), features(number))
    return folder


def bits(array: np.ndarray | None) -> bytes | None:
    return None if array is None else array.tobytes()


def start_writer(folder: Path, *numbers: int) -> subprocess.Popen:
    command = [sys.executable, "-c", WRITER, str(Path(__file__).parent), str(folder), *map(str, numbers)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def go(*writers: subprocess.Popen) -> None:
    """Let them write once all have opened the cache."""
    for writer in writers:
        assert writer.stdout is not None and writer.stdout.readline() == "ready\n"
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.close()


def test_every_bit_comes_back(tmp_path):
    special = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 1e-45, 3.4e38, 1 / 3] * 3, np.float32).reshape(SHAPE)
    special.view(np.uint32)[0, 0, 0] = 0x7FA12345  # a signalling NaN with a payload
    strided = np.asfortranarray(features(1))
    with FeatureCache(tmp_path / "cache", SPACE) as cache:
        cache.put(key(0), special)
        cache.put(key(1), strided)
        for reader in (cache, FeatureCache(tmp_path / "cache", SPACE), pickle.loads(pickle.dumps(cache))):
            assert len(reader) == 2
            assert bits(reader.get(key(0))) == bits(reader.read(key(0))) == special.tobytes()
            assert bits(reader.get(key(1))) == features(1).tobytes()
            assert reader.get(key(2)) is None and reader.read(key(2)) is None
    assert len(FeatureCache(tmp_path / "cache", namespace_key(weights="others", size=8, frames=3))) == 0


def test_get_is_a_view_that_nobody_can_write_to(tmp_path):
    cache = FeatureCache(filled(tmp_path / "cache", 1), SPACE)
    view = cache.get(key(0))
    assert view is not None and not view.flags.owndata
    with pytest.raises(ValueError, match="read-only"):
        view[0, 0, 0] = 1
    copy = cache.read(key(0))
    assert copy is not None and copy.flags.writeable
    copy[:] = 0
    assert bits(cache.get(key(0))) == features(0).tobytes()


def test_an_entry_stays_as_it_is(tmp_path):
    with FeatureCache(tmp_path / "cache", SPACE) as cache:
        cache.put(key(0), features(0))
        size = cache.size_bytes()
        cache.put(key(0), features(1))
        assert cache.size_bytes() == size
        assert bits(cache.get(key(0))) == features(0).tobytes()


def test_what_cannot_be_an_entry_is_refused(tmp_path):
    with FeatureCache(tmp_path / "cache", SPACE) as cache:
        for wrong in (features(0).astype(np.float64), features(0)[0], features(0)[:0]):
            with pytest.raises(ValueError, match=r"an entry must be \(V, T, D\) of float32"):
                cache.put(key(0), wrong)
        with pytest.raises(ValueError, match="key must be 64 hexadecimal digits"):
            cache.put("../elsewhere", features(0))
        cache.put(key(0), features(0))
        with pytest.raises(ValueError, match=r"entries of this namespace are \(2, 3, 4\), got \(2, 3, 5\)"):
            cache.put(key(1), features(1, (2, 3, 5)))
    with pytest.raises(ValueError, match="namespace must be 64 hexadecimal digits"):
        FeatureCache(tmp_path / "cache", "..")


def test_keys_tell_everything_apart():
    assert entry_key("a", [0, 8]) == entry_key("a", np.array([0, 8])) == entry_key("a", np.array([0, 8], np.int32))
    keys = [entry_key("a", [0, 8]), entry_key("a", [8, 0]), entry_key("b", [0, 8]), entry_key("a", "[0, 8]")]
    keys += [namespace_key(a=1), namespace_key(a="1"), namespace_key(a=1, b=None)]
    assert len(set(keys)) == len(keys)
    assert namespace_key(a=1, b=2) == namespace_key(b=2, a=1)


def test_shards_are_cut_at_a_size_and_all_of_them_are_read(tmp_path, monkeypatch):
    row_bytes = features(0).nbytes
    monkeypatch.setattr(feature_cache, "SHARD_BYTES", 3 * row_bytes + 5)
    cache = FeatureCache(filled(tmp_path / "cache", 10), SPACE)
    rows = sorted(file.stat().st_size / row_bytes for file in (tmp_path / "cache" / SPACE).glob("*.bin"))
    assert rows == [1, 3, 3, 3]
    keys = [key(number) for number in (7, 2, 9, 9, 0, 1, 8, 3)]
    assert cache.missing(keys) == [] and len({cache._position(name)[0] for name in keys}) > 2
    assert [bits(cache.read(name)) for name in keys] == [bits(features(n)) for n in (7, 2, 9, 9, 0, 1, 8, 3)]


def test_missing_keeps_the_order_drops_repeats_and_sees_what_others_wrote(tmp_path):
    cache = FeatureCache(tmp_path / "cache", SPACE)
    assert cache.missing([key(1), key(0)]) == [key(1), key(0)]
    filled(tmp_path / "cache", 2)
    assert cache.get(key(1)) is None
    assert cache.missing([key(5), key(1), key(3), key(0), key(5)]) == [key(5), key(3)]
    assert cache.missing([key(1), key(0)]) == cache.missing([]) == []


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_damage_makes_entries_missing_but_never_wrong(tmp_path_factory, data):
    folder = filled(tmp_path_factory.mktemp("damage") / "cache", 6)
    for suffix in data.draw(st.sets(st.sampled_from(["bin", "index"]), min_size=1)):
        (file,) = folder.glob(f"*/*.{suffix}")
        content = bytearray(file.read_bytes())
        place = data.draw(st.integers(0, len(content) - 1), label=suffix)
        if data.draw(st.booleans(), label="cut"):
            del content[place:]
        else:
            content[place] ^= data.draw(st.integers(1, 255))
        file.write_bytes(content)
    with FeatureCache(folder, SPACE) as cache:
        keys = [key(number) for number in range(6)]
        missing = cache.missing(keys)
        for number in range(6):
            expected = None if key(number) in missing else features(number).tobytes()
            assert bits(cache.get(key(number))) == expected
        assert 1 <= len(missing) <= 6  # every byte matters to some entry
        for name in missing:
            cache.put(name, features(keys.index(name)))
    repaired = FeatureCache(folder, SPACE)
    assert repaired.missing(keys) == []
    assert [bits(repaired.read(name)) for name in keys] == [bits(features(number)) for number in range(6)]


def test_a_row_counts_under_its_own_key_only(tmp_path):
    folder = filled(tmp_path / "cache", 2)
    (index,) = folder.glob("*/*.index")
    first, second = index.read_bytes().splitlines(keepends=True)
    index.write_bytes(first[:64] + second[64:] + second[:64] + first[64:])
    assert FeatureCache(folder, SPACE).missing([key(0), key(1)]) == [key(0), key(1)]


def test_a_reader_sees_an_entry_when_its_line_is_complete(tmp_path):
    """The files of a writer, byte by byte as they grow: row first, then line."""
    source = filled(tmp_path / "source", 2)
    (rows,), (index,) = source.glob("*/*.bin"), source.glob("*/*.index")
    folder = filled(tmp_path / "cache", 0)
    (folder / SPACE).mkdir()
    text, row_bytes = index.read_bytes(), features(0).nbytes
    line = len(text) // 2
    reader = FeatureCache(folder, SPACE)
    for done in range(0, len(text) + 1):
        (folder / SPACE / rows.name).write_bytes(rows.read_bytes()[: (done // line + 1) * row_bytes])
        (folder / SPACE / index.name).write_bytes(text[:done])
        for cache in (reader, FeatureCache(folder, SPACE)):  # one that has been watching, one that comes anew
            cache.refresh()
            assert len(cache) == done // line
            assert [bits(cache.get(key(n))) for n in range(done // line)] == [
                features(n).tobytes() for n in range(done // line)
            ]


@pytest.mark.parametrize("after", [1, 4, 9])
def test_a_killed_writer_leaves_all_it_had_put(tmp_path, after):
    shape = (4, 64, 1024)  # a megabyte: the kill falls into a row
    process = start_writer(tmp_path / "cache", 0, 10**6, 1, *shape)
    go(process)
    assert process.stdout is not None
    with process.stdout:
        for _ in range(after):
            process.stdout.readline()
        process.send_signal(signal.SIGKILL)
        process.wait()
        told = after + len(process.stdout.readlines())
    with FeatureCache(tmp_path / "cache", SPACE) as cache:
        assert told <= len(cache) <= told + 1
        for number in range(told):
            assert np.array_equal(cache.read(key(number)), features(number, shape))
        for number in range(told, told + 3):
            cache.put(key(number), features(number, shape))
        cache = FeatureCache(tmp_path / "cache", SPACE)
        assert cache.missing([key(number) for number in range(told + 3)]) == []
        assert np.array_equal(cache.read(key(told + 1)), features(told + 1, shape))


def test_two_writers_and_a_reader_at_once(tmp_path):
    count = 200
    cache = FeatureCache(tmp_path / "cache", SPACE)
    # One upwards, one downwards; neither looks at what the other has written, so every entry is written twice.
    writers = [start_writer(tmp_path / "cache", 0, count, 1, *SHAPE)]
    writers.append(start_writer(tmp_path / "cache", count - 1, -1, -1, *SHAPE))
    go(*writers)
    seen, deadline = [0], time.monotonic() + 60
    while any(writer.poll() is None for writer in writers) and time.monotonic() < deadline:
        cache.refresh()
        seen.append(len(cache))
        for number in range(count):
            assert bits(cache.get(key(number))) in (None, features(number).tobytes())
    for writer in writers:
        assert writer.stdout is not None
        with writer.stdout:
            assert writer.wait(timeout=60) == 0
    assert seen == sorted(seen)
    assert cache.missing([key(number) for number in range(count)]) == []
    assert len(cache) == count
    assert [file.stat().st_size for file in (tmp_path / "cache" / SPACE).glob("*.bin")] == 2 * [count * 96]


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_copy_writes_files_of_its_own(tmp_path):
    cache = FeatureCache(tmp_path / "cache", SPACE)
    cache.put(key(0), features(0))
    child = multiprocessing.get_context("fork").Process(target=lambda: cache.put(key(1), features(1)))
    child.start()
    cache.put(key(2), features(2))
    child.join()
    assert child.exitcode == 0
    cache.close()
    fresh = FeatureCache(tmp_path / "cache", SPACE)
    assert [bits(fresh.read(key(n))) for n in range(3)] == [bits(features(n)) for n in range(3)]
    assert len(list((tmp_path / "cache" / SPACE).glob("*.bin"))) == 2


@pytest.mark.parametrize("over", [1, 50, 95])
def test_a_full_disk_is_an_error_and_leaves_whole_entries(tmp_path, over):
    """A limit on the size of files stands for the disk: writing stops within a row, with an error like ENOSPC."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    with FeatureCache(tmp_path / "cache", SPACE) as cache:
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (2 * features(0).nbytes + over, before[1]))
            for number in range(2):
                cache.put(key(number), features(number))
            with pytest.raises(OSError, match=r"cannot write the feature cache.*make room, or go without") as raised:
                cache.put(key(2), features(2))
            assert str(tmp_path / "cache") in str(raised.value)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert cache.get(key(2)) is None
        assert len(FeatureCache(tmp_path / "cache", SPACE)) == len(cache) == 2  # no line without its row
        cache.put(key(2), features(2))  # there is room again
        cache.put(key(3), features(3))
    fresh = FeatureCache(tmp_path / "cache", SPACE)
    assert len(fresh) == 4
    assert [bits(fresh.read(key(n))) for n in range(4)] == [bits(features(n)) for n in range(4)]


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="no /proc/self/status to read memory from")
def test_reading_all_does_not_keep_all_in_memory(tmp_path):
    def mapped() -> float:
        lines = Path("/proc/self/status").read_text().splitlines()
        return sum(int(line.split()[1]) for line in lines if line.startswith(("RssFile", "RssShmem"))) / 1024

    row, count = np.ones((4, 64, 1024), np.float32), 48  # a megabyte each
    with FeatureCache(tmp_path / "cache", SPACE) as cache:
        for number in range(count):
            cache.put(key(number), row)
    cache = FeatureCache(tmp_path / "cache", SPACE)
    keys = [key(number) for number in range(count)]
    resting = mapped()
    assert cache.missing(keys) == []
    assert max(mapped() - resting for name in keys if cache.read(name) is not None) < 8
    views = [cache.get(name) for name in keys]
    assert len(views) == count and mapped() - resting > 40  # the measurement sees what is not given back


def make_old(path: Path) -> None:
    os.utime(path, ns=(10**18, 10**18))


def test_a_file_is_read_again_when_it_has_changed_only(tmp_path):
    video, cache = tmp_path / "clip.mp4", FeatureCache(tmp_path / "cache", SPACE)
    video.write_bytes(b"first")
    make_old(video)
    first = cache.file_key(video)
    assert first == "a7937b64b8caa58f03721bb6bacf5c78cb235febe0e70b1b84cd99541461a08e"  # sha256sum
    video.write_bytes(b"other")  # same size, and the time is put back: only a reader of the content could tell
    make_old(video)
    for other in (cache, FeatureCache(tmp_path / "cache", namespace_key(weights="others"))):
        assert other.file_key(video) == first
    os.utime(video, ns=(10**18, 10**18 + 1))
    changed = cache.file_key(video)
    assert changed == FeatureCache(tmp_path / "cache", SPACE).file_key(video) != first
    video.write_bytes(b"first")
    make_old(video)
    assert cache.file_key(os.path.relpath(video)) == first
    with pytest.raises(FileNotFoundError):
        cache.file_key(tmp_path / "absent.mp4")


def test_a_file_just_written_is_not_trusted_to_stay(tmp_path):
    video, cache = tmp_path / "clip.mp4", FeatureCache(tmp_path / "cache", SPACE)
    video.write_bytes(b"first")
    status = video.stat()
    first = cache.file_key(video)
    video.write_bytes(b"other")
    os.utime(video, ns=(status.st_atime_ns, status.st_mtime_ns))  # within one tick of the clock
    assert cache.file_key(video) != first


def test_a_damaged_index_of_files_is_read_around(tmp_path):
    videos = [tmp_path / f"{name}.mp4" for name in ("one", "tw\udcffo", "three")]  # a name that is not UTF-8
    cache = FeatureCache(tmp_path / "cache", SPACE)
    for i, video in enumerate(videos):
        video.write_bytes(bytes([i]))
        make_old(video)
    keys = [cache.file_key(video) for video in videos]
    index = tmp_path / "cache" / FILES
    text = index.read_bytes()
    assert text.count(b"\n") == 3
    for cut in range(0, len(text), 7):
        index.write_bytes(text[:cut] + b"\n[1]\n7\n")
        assert [FeatureCache(tmp_path / "cache", SPACE).file_key(video) for video in videos] == keys
        index.write_bytes(text[:cut])
        assert [FeatureCache(tmp_path / "cache", SPACE).file_key(video) for video in videos] == keys


def test_size_and_clear(tmp_path):
    folder, other = filled(tmp_path / "cache", 3), namespace_key(weights="others")
    with FeatureCache(folder, other) as cache:
        cache.put(key(0), features(0))
    (tmp_path / "clip.mp4").write_bytes(b"video")
    make_old(tmp_path / "clip.mp4")
    cache.file_key(tmp_path / "clip.mp4")
    line = 64 + len(" 0 ") + 8 + 1
    row = features(0).nbytes
    assert cache_size(folder) == {SPACE: Usage(3, 3 * (row + line)), other: Usage(1, row + line)}
    freed = 4 * (row + line) + (folder / FILES).stat().st_size
    assert clear(folder) == freed
    assert not folder.exists()
    assert (tmp_path / "clip.mp4").exists()


def test_a_cache_in_use_is_not_cleared_by_another_process(tmp_path):
    folder = filled(tmp_path / "cache", 2)
    writer = start_writer(folder, 2, 4, 1, *SHAPE)
    assert writer.stdout is not None and writer.stdout.readline() == "ready\n"
    with pytest.raises(InUseError, match="cache: in use by another process"):
        clear(folder)
    writer.communicate("\n")
    assert len(FeatureCache(folder, SPACE)) == 4
    clear(folder)
    assert not folder.exists()


def test_clear_leaves_what_it_does_not_know(tmp_path):
    folder, elsewhere = filled(tmp_path / "cache", 1), filled(tmp_path / "elsewhere", 1)
    foreign = [folder / "thesis.tex", folder / SPACE / "2x3x4.bin", folder / SPACE / "notes" / "a.txt"]
    foreign[2].parent.mkdir()
    for file in foreign:
        file.write_text("mine")
    (folder / namespace_key(link=1)).symlink_to(elsewhere / SPACE)
    clear(folder)
    assert all(file.read_text() == "mine" for file in foreign)
    assert not (folder / MARKER).exists() and not list(folder.glob(f"{SPACE}/2x3x4-*"))
    assert len(FeatureCache(elsewhere, SPACE)) == 1
    for folder in (tmp_path / "cache", tmp_path / "absent", tmp_path):
        with pytest.raises(ValueError, match=r"not a feature cache.*nothing was touched"):
            clear(folder)
        with pytest.raises(ValueError, match="not a feature cache"):
            cache_size(folder)


def test_a_folder_of_other_things_is_not_taken(tmp_path):
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "clip.mp4").touch()
    for folder in (tmp_path / "videos", tmp_path / "videos" / "clip.mp4"):
        with pytest.raises(ValueError, match=r"not a feature cache of this version.*give an empty folder"):
            FeatureCache(folder, SPACE)
    assert [file.name for file in (tmp_path / "videos").iterdir()] == ["clip.mp4"]

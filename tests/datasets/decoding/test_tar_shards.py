"""Videos in archives are the videos in files, to the bit, in any order, on any number of processes."""

import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from video_files import FILES, numbered_frames, write_video

from mote.cli import main
from mote.config import validate
from mote.datasets.cache.file_hashes import FileHashes
from mote.datasets.decoding.decode import read_frames
from mote.datasets.decoding.errors import DecodeError
from mote.datasets.decoding.tar_shards import part_of, shard_numbers, write_shards
from mote.datasets.lists.manifest import ManifestError, read_manifest, read_rows
from mote.datasets.lists.reading import Listing
from mote.datasets.loader import EpochSampler, make_loader
from mote.datasets.video import VideoDataset
from mote.experiments import loaders
from mote.files.hashes import sha256_file
from mote.training.batches import StepBatches, with_batches

COUNT = 23


@pytest.fixture(scope="module")
def videos(tmp_path_factory) -> Path:
    """A list of short videos in class folders, one of them listed twice, and one with dots in its name."""
    folder = tmp_path_factory.mktemp("videos")
    names = [f"{'ab'[i % 2]}/{i}.{('mp4', 'avi')[i % 3 == 0]}" for i in range(COUNT - 1)] + ["a/1.2.3.mp4"]
    frames = numbered_frames(40)
    for i, name in enumerate(names):
        (folder / name).parent.mkdir(exist_ok=True)
        write_video(folder / name, frames[i : i + 12], codec="mpeg4", gop=5)
    lines = [f"{name} {int(name[0] == 'b')}\n" for name in [*names, names[3]]]
    (folder / "train.txt").write_text("".join(lines))
    return folder


@pytest.fixture(scope="module")
def shards(videos, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("out") / "shards"
    found = write_shards(read_rows(videos / "train.txt"), videos, out, 50_000)
    assert (found["videos"], found["shards"]) == (COUNT, len(list(out.glob("*.tar")))) and found["shards"] > 3
    assert found["bytes"] == sum(path.stat().st_size for path in videos.glob("*/*"))
    return out


def dataset(folder: Path, **options) -> VideoDataset:
    records = read_manifest(folder / ("list.csv" if (folder / "list.csv").exists() else "train.txt"))
    return VideoDataset(records, num_frames=4, size=32, train=True, seed=3, **options)


def test_items_are_equal_to_the_bit(videos, shards):
    files, parts = dataset(videos), dataset(shards)
    assert len(files) == len(parts) == COUNT + 1
    for epoch in (0, 2):
        for index in range(len(files)):
            expected, found = files[epoch, index], parts[epoch, index]
            assert all(torch.equal(expected[key], found[key]) for key in ("frames", "label", "index", "valid"))
    hashes = FileHashes(shards.parent / "hashes")
    for file, part in zip(files.records, parts.records, strict=True):
        assert file.path.parent.name == part.path.parent.name
        assert hashes(part.path) == sha256_file(file.path)
        assert hashes(part.path) == sha256_file(file.path)  # as remembered


@pytest.mark.parametrize("name", FILES)
def test_every_kind_of_file(name, tmp_path):
    file, options = FILES[name]
    path = write_video(tmp_path / file, numbered_frames(30), **options)
    (tmp_path / "b.txt").write_text(f"{file} 0\n{file} 0\n")
    write_shards(read_rows(tmp_path / "b.txt"), tmp_path, tmp_path / "shards")
    record, again = read_manifest(tmp_path / "shards" / "list.csv")
    assert record == again
    wanted = [29, 0, 7, 7, 13]
    assert np.array_equal(read_frames(record.path, wanted), read_frames(path, wanted))


def test_resume_and_two_processes(videos, shards):
    """Two processes see each item of an epoch once, and the same as one process and files; step 2 on is what it was."""
    numbers = shard_numbers([record.path for record in dataset(shards).records])

    def epoch(folder: Path, rank: int, processes: int, first_step: int, workers: int = 0) -> list[dict]:
        sampler = EpochSampler(COUNT + 1, seed=5, groups=numbers, window=2)
        batches = StepBatches(sampler, batch_size=6, accumulation=1, processes=processes, rank=rank)
        batches.epoch, batches.first_step = 1, first_step
        loader = make_loader(dataset(folder), 6, sampler=sampler, workers=workers, drop_last=True)
        return list(with_batches(loader, batches))

    whole = epoch(videos, 0, 1, 0)
    assert sorted(torch.cat([batch["index"] for batch in whole]).tolist()) == list(range(COUNT + 1))
    halves = [epoch(shards, rank, 2, 0) for rank in (0, 1)]
    for step, batch in enumerate(whole):
        for key in ("frames", "label", "index"):
            assert torch.equal(batch[key], torch.cat([half[step][key] for half in halves]))
    for step, batch in enumerate(epoch(shards, 0, 1, 2, workers=1)):
        assert all(torch.equal(batch[key], whole[2 + step][key]) for key in ("frames", "label", "index"))


def test_the_order_stays_within_windows_of_archives():
    groups = np.repeat(np.arange(10), 7)
    sampler = EpochSampler(70, seed=1, groups=groups, window=3)
    orders = []
    for epoch in (0, 1):
        sampler.set_epoch(epoch)
        order = [index for _, index in sampler]
        assert sorted(order) == list(range(70))
        windows = [set(groups[order[start : start + 21]]) for start in range(0, 70, 21)]
        assert [len(window) for window in windows] == [3, 3, 3, 1] and set.union(*windows) == set(range(10))
        assert list(groups[order[:21]]) != sorted(groups[order[:21]])  # mixed within
        orders.append(order)
    assert orders[0] != orders[1]
    sampler.set_epoch(0)
    assert [index for _, index in sampler] == orders[0]


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_webdataset_reads_the_archives(videos, shards):
    webdataset = pytest.importorskip("webdataset")  # it leaves its files to the garbage collector
    found = {}
    for archive in sorted(shards.glob("*.tar")):
        for sample in webdataset.WebDataset(str(archive), shardshuffle=False):
            (suffix,) = {"mp4", "avi"} & set(sample)
            found[f"{sample['__key__']}.{suffix}"] = (sample[suffix], int(sample["cls"]))
    expected = {}
    for row in read_rows(videos / "train.txt"):
        expected[row.path.replace("1.2.3", "1%2E2%2E3")] = ((videos / row.path).read_bytes(), int(row.label))
    assert found == expected


def test_archives_are_plain_and_repeatable(videos, shards, tmp_path):
    write_shards(read_rows(videos / "train.txt"), videos, tmp_path / "again", 50_000)
    for archive in shards.glob("*.tar"):
        assert archive.read_bytes() == (tmp_path / "again" / archive.name).read_bytes()
        with tarfile.open(archive) as file:
            members = {(member.offset_data, member.size) for member in file.getmembers()[::2]}
        parts = [part_of(record.path) for record in read_manifest(shards / "list.csv")]
        assert members == {(part.offset, part.size) for part in parts if part.archive == str(archive)}


def test_the_command_and_the_training_order(videos, tmp_path, capsys):
    """A folder per class becomes archives with names as labels; training shuffles a window of them at a time."""
    out = tmp_path / "shards"
    with pytest.raises(SystemExit) as ended:
        main(["data", "shard", str(videos), "--out", str(out), "--size", "0.00005"])
    assert ended.value.code == 0 and f"{out}: {COUNT} videos" in capsys.readouterr().out
    listed = Listing(out / "list.csv").records(["a", "b"])
    expected = Listing(videos).records(["a", "b"])
    assert [(r.path.name, r.label) for r in listed if "%" not in r.path.name] == [
        (r.path.name, r.label) for r in expected if r.path.name != "1.2.3.mp4"
    ]
    config = validate({"data": {"shuffle_shards": 2, "workers": 0}, "seed": 4})
    loader = loaders.training_loader(config, loaders.training_dataset(config.data, listed, 32, 4))
    numbers = shard_numbers([record.path for record in listed])
    order = [index for _, index in loader.sampler]
    assert order == [i for _, i in EpochSampler(COUNT, 4, groups=numbers, window=2)]
    with pytest.raises(ValueError, match="lies in no archive"):
        loaders.training_loader(config, loaders.training_dataset(config.data, expected, 32, 4))


def test_what_cannot_be_done_is_said_and_leaves_nothing(videos, shards, tmp_path):
    (tmp_path / "bad.txt").write_text("gone.mp4 0\n")
    with pytest.raises(ManifestError, match=r"bad\.txt:1: .*gone\.mp4 is not a file"):
        write_shards(read_rows(tmp_path / "bad.txt"), tmp_path, tmp_path / "out")
    assert not (tmp_path / "out").exists() and not (tmp_path / "out.partial").exists()
    with pytest.raises(FileExistsError, match="is already there"):
        write_shards(read_rows(videos / "train.txt"), videos, shards)
    with pytest.raises(ValueError, match="lies in no archive"):
        shard_numbers([videos / "a/0.avi"])
    path = dataset(shards).records[0].path
    cut = tmp_path / "00000.tar"
    cut.write_bytes((shards / "00000.tar").read_bytes()[:1000])
    for place, decoder, cause in (
        (tmp_path / Path(*path.parts[-4:]), "pyav", "its archive is cut off"),
        (tmp_path / "gone" / Path(*path.parts[-4:]), "pyav", "there is no such file"),
        (path, "decord", "it reads no archives"),
    ):
        with pytest.raises(DecodeError, match=cause):
            read_frames(place, [0], decoder)

"""Cached features in the place of videos: the same batches, no decoding, and no video lost or made up."""

import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from video_files import numbered_frames, write_video

from mote.datasets import video
from mote.datasets.cached_video import CachedVideoDataset, fill, record_keys, to_encode
from mote.datasets.decode import DecodeError
from mote.datasets.feature_cache import FeatureCache, entry_key, namespace_key
from mote.datasets.loader import EpochSampler, make_loader
from mote.datasets.manifest import Record
from mote.datasets.video import VideoDataset

SPACE = namespace_key(weights="w")
RULE = "segment, 4 frames, 2 clips, 1 crop"
SHAPE = (2, 4, 5)


@pytest.fixture
def records(tmp_path) -> list[Record]:
    """Five videos; the third is damaged, the fourth absent, the fifth a copy of the first with another label."""
    for i in (0, 1):
        write_video(tmp_path / f"{i}.mp4", numbered_frames(12 + 9 * i))
    (tmp_path / "2.mp4").write_bytes(b"not a video")
    shutil.copy(tmp_path / "0.mp4", tmp_path / "4.mp4")
    return [Record(tmp_path / f"{i}.mp4", i) for i in range(5)]


def dataset(records: list[Record]) -> VideoDataset:
    return VideoDataset(records, num_frames=4, size=16, train=False, num_clips=2, on_error="mark")


def batches(data, size: int = 2, workers: int = 0) -> list[dict[str, Tensor]]:
    sampler = EpochSampler(len(data), shuffle=False)
    return list(make_loader(data, size, sampler=sampler, workers=workers, drop_last=False))


def encode(batch: Mapping[str, Tensor]) -> Tensor:
    """(B, V, T, 3, S, S) to (B, V, T, 5): pixels that differ from frame to frame."""
    return batch["frames"][..., 0, 3, 1::3].float() / 7


def encode_missing(cache: FeatureCache, records: list[Record]) -> list[int]:
    """What an evaluation does before it scores; returns the records that were encoded."""
    keys = record_keys(cache, records, RULE)
    todo = to_encode(cache, keys)
    if todo:
        fill(cache, [key for i in todo if (key := keys[i])], batches(dataset([records[i] for i in todo])), encode)
    return todo


def cached(cache: FeatureCache, records: list[Record]) -> CachedVideoDataset:
    return CachedVideoDataset(dataset(records), cache, record_keys(cache, records, RULE), SHAPE)


def test_cached_batches_are_those_of_the_direct_path(records, tmp_path):
    direct = batches(dataset(records))
    with FeatureCache(tmp_path / "cache", SPACE) as cache:
        assert encode_missing(cache, records) == [0, 1, 2]  # the copy shares the entry; the absent one has no key
        assert len(cache) == 2
        assert encode_missing(cache, records) == [2]  # what cannot be decoded is tried again, never remembered
        for workers in (0, 2):
            for expected, got in zip(direct, batches(cached(cache, records), workers=workers), strict=True):
                assert set(got) == {"features", "label", "index", "valid"}
                assert all(torch.equal(got[name], expected[name]) for name in ("label", "index", "valid"))
                features = encode(expected) * expected["valid"][:, None, None, None]
                assert features.abs().sum() > 0 or not expected["valid"].any()
                assert torch.equal(got["features"], features)
        item = cached(cache, records)[(3, 1)]  # as EpochSampler asks
        assert item["index"] == 1 and torch.equal(item["features"], encode(direct[0])[1])


def test_cached_records_are_not_decoded(records, tmp_path, monkeypatch):
    with FeatureCache(tmp_path / "cache", SPACE) as cache:
        encode_missing(cache, records)
    opened: list[Path] = []

    def refuse(path: Path, *_: object) -> np.ndarray:
        opened.append(path)
        raise DecodeError(path, "test", "must not be opened")

    monkeypatch.setattr(video, "read_frames", refuse)
    data = cached(FeatureCache(tmp_path / "cache", SPACE), records)
    assert [data[i]["valid"].item() for i in range(5)] == [True, True, False, False, True]
    assert opened == [records[2].path, records[3].path]


def test_a_changed_video_is_encoded_anew(records, tmp_path):
    with FeatureCache(tmp_path / "cache", SPACE) as cache:
        encode_missing(cache, records)
        before = cached(cache, records)[1]["features"]
        write_video(records[1].path, numbered_frames(40)[::-1])
        assert encode_missing(cache, records) == [1, 2]
        after = cached(cache, records)[1]["features"]
        assert torch.equal(after, encode(batches(dataset(records[1:2]))[0])[0])
        assert not torch.equal(before, after)


def test_a_lost_entry_is_an_error_not_a_wrong_answer(records, tmp_path):
    with FeatureCache(tmp_path / "cache", SPACE) as cache:
        encode_missing(cache, records)
        data = cached(cache, records)
        (rows,) = (tmp_path / "cache").glob("*/*.bin")
        rows.write_bytes(bytes(rows.stat().st_size))
        with pytest.raises(RuntimeError, match=r"0\.mp4: its features are not in .*cache; run again"):
            data[0]
        assert encode_missing(cache, records) == [0, 1, 2]
        assert torch.equal(data[0]["features"], encode(batches(dataset(records[:1]))[0])[0])


def test_keys_follow_content_and_rule_and_fit_the_videos(records, tmp_path):
    cache = FeatureCache(tmp_path / "cache", SPACE)
    keys = record_keys(cache, records, RULE)
    assert keys[3] is None and keys[0] == keys[4] and len(set(keys)) == 4
    assert keys[0] == entry_key(cache.file_key(records[0].path), RULE) != record_keys(cache, records, "dense")[0]
    with pytest.raises(ValueError, match="expected a key for each of 5 videos, got 4"):
        CachedVideoDataset(dataset(records), cache, keys[:4], SHAPE)

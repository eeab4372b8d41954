"""Which records of a list must be encoded: new content, damaged entries, each content once."""

import hashlib
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest

from mote.datasets.cache.cached_video import record_keys, to_encode
from mote.datasets.cache.feature_cache import FeatureCache, entry_key, namespace_key
from mote.datasets.lists.manifest import Record

SPACE = namespace_key(weights="w")
RULE = "segment"


@pytest.fixture
def records(tmp_path) -> list[Record]:
    """Five files; the fourth is absent, the fifth a copy of the first with another label."""
    for i in range(3):
        (tmp_path / f"{i}.mp4").write_bytes(bytes([i]))
    shutil.copy(tmp_path / "0.mp4", tmp_path / "4.mp4")
    return [Record(tmp_path / f"{i}.mp4", i) for i in range(5)]


def put(cache: FeatureCache, keys: list[str | None], indices: list[int]) -> None:
    for i in indices:
        cache.put(keys[i] or "", np.full((2, 4, 5), i + 1, np.float32))


def test_each_content_is_encoded_once(records, tmp_path):
    with FeatureCache(tmp_path / "cache", SPACE) as cache:
        keys = record_keys(cache, records, RULE)
        assert keys[3] is None and keys[0] == keys[4] and len(set(keys)) == 4
        assert to_encode(cache, keys) == [0, 1, 2]
        put(cache, keys, [0, 2])
        assert to_encode(cache, keys) == [1]


def test_a_changed_file_is_encoded_anew(records, tmp_path):
    with FeatureCache(tmp_path / "cache", SPACE) as cache:
        put(cache, record_keys(cache, records, RULE), [0, 1, 2])
        Path(records[1].path).write_bytes(b"other")
        assert to_encode(cache, record_keys(cache, records, RULE)) == [1]


def test_a_damaged_entry_is_encoded_anew(records, tmp_path):
    with FeatureCache(tmp_path / "cache", SPACE) as cache:
        keys = record_keys(cache, records, RULE)
        put(cache, keys, [0, 1, 2])
        (rows,) = (tmp_path / "cache").glob("*/*.bin")
        rows.write_bytes(bytes(rows.stat().st_size))
        assert to_encode(cache, keys) == [0, 1, 2]


def test_keys_follow_the_rule(records, tmp_path):
    cache = FeatureCache(tmp_path / "cache", SPACE)
    keys = record_keys(cache, records, RULE)
    assert keys[0] == entry_key(cache.file_key(records[0].path), RULE) != record_keys(cache, records, "dense")[0]


def test_servers_are_asked_about_several_addresses_at_once_and_keys_keep_their_order(records, tmp_path, monkeypatch):
    """Each answer waits for a second question; one after the other they would wait for ever."""
    both = threading.Barrier(2, timeout=20)

    def asked(address: str) -> str:
        both.wait()
        return hashlib.sha256(address.encode()).hexdigest()

    monkeypatch.setattr("mote.datasets.cache.file_hashes.address_key", asked)
    addresses = [Record(f"https://host/{i}.mp4", 0) for i in range(40)]
    mixed = [one for pair in zip(addresses, records * 8, strict=True) for one in pair]
    with FeatureCache(tmp_path / "cache", SPACE) as cache:
        keys = record_keys(cache, mixed, RULE)
        assert keys[1::2] == record_keys(cache, records * 8, RULE)
        assert keys[::2] == [entry_key(hashlib.sha256(one.path.encode()).hexdigest(), RULE) for one in addresses]

"""Which records of a list have features in a cache, and which must be encoded."""

from collections.abc import Iterable, Sequence

from mote.datasets.cache.feature_cache import FeatureCache, entry_key
from mote.datasets.lists.manifest import Record


def record_keys(cache: FeatureCache, records: Iterable[Record], indices: str) -> list[str | None]:
    """The key of each record's entry, None where the file cannot be read; `indices`: as for `entry_key`."""
    keys: list[str | None] = []
    for record in records:
        try:
            keys.append(entry_key(cache.file_key(record.path), indices))
        except OSError:
            keys.append(None)
    return keys


def to_encode(cache: FeatureCache, keys: Sequence[str | None]) -> list[int]:
    """Indices of the records whose entries are missing or damaged, the first of those that share one."""
    first: dict[str, int] = {}
    for index, key in enumerate(keys):
        if key is not None:
            first.setdefault(key, index)
    return [first[key] for key in cache.missing(first)]

"""Which records of a list have features in a cache, and which must be encoded."""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from mote.datasets.cache.feature_cache import FeatureCache, entry_key
from mote.datasets.lists.manifest import Record
from mote.files.addresses import scheme

REQUESTS = 16  # servers are asked about so many addresses at once


def record_keys(cache: FeatureCache, records: Iterable[Record], indices: str) -> list[str | None]:
    """The key of each record's entry, None where the file cannot be read; `indices`: as for `entry_key`."""

    def key(record: Record) -> str | None:
        try:
            return entry_key(cache.file_key(record.path), indices)
        except OSError:
            return None

    def ahead(pool: ThreadPoolExecutor) -> Iterator[str | None]:
        waiting = deque[Future[str | None] | str | None]()
        for record in records:  # files here, one after the other: disks like that best, and their index is no thread's
            waiting.append(key(record) if scheme(record.path) is None else pool.submit(key, record))
            if len(waiting) > REQUESTS:
                yield _value(waiting.popleft())
        yield from map(_value, waiting)

    with ThreadPoolExecutor(REQUESTS) as pool:
        return list(ahead(pool))


def _value(found: Future[str | None] | str | None) -> str | None:
    return found.result() if isinstance(found, Future) else found


def to_encode(cache: FeatureCache, keys: Sequence[str | None]) -> list[int]:
    """Indices of the records whose entries are missing or damaged, the first of those that share one."""
    first: dict[str, int] = {}
    for index, key in enumerate(keys):
        if key is not None:
            first.setdefault(key, index)
    return [first[key] for key in cache.missing(first)]

"""What becomes of memory that is freed, with glibc: kept for the next use, or handed back to the system."""

import ctypes
import sys

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of malloc.h


def keep_freed_memory() -> None:
    """Blocks up to 32 MB that are freed serve the next ones, 64 MB at most; from now on, in this process.

    For processes that do the same over and over, such as reading clips: a page that the system hands out anew costs as
    much as decoding some hundred of its pixels.
    """
    _set(M_MMAP_THRESHOLD, 2**25)
    _set(M_TRIM_THRESHOLD, 2**26)


def give_back_memory() -> None:
    """Blocks of a megabyte or more go back to the system when they are freed, for the rest of this process.

    For work whose blocks differ in size from step to step: kept for reuse, they come to gigabytes.
    """
    _set(M_MMAP_THRESHOLD, 2**20)


def _set(parameter: int, value: int) -> None:
    if sys.platform == "linux":
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
        if mallopt is not None:
            mallopt(parameter, value)

"""SHA-256 of files and lists of texts: what results are tied to; of tensors, see `tensor_hashes`."""

import hashlib
from collections.abc import Sequence
from pathlib import Path


def sha256_file(path: Path | str) -> str:
    """SHA-256 of a file's bytes as 64 hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_lines(lines: Sequence[str]) -> str:
    """SHA-256 of a text file of these lines: for lists (of classes, of clips) that have no file."""
    return hashlib.sha256("".join(f"{line}\n" for line in lines).encode("utf-8", "surrogateescape")).hexdigest()

"""A list as its settings name it: class names, records, prompt templates, hash."""

from collections.abc import Sequence
from pathlib import Path

from mote.datasets.lists.agreement import check_folders
from mote.datasets.lists.manifest import (
    Record,
    manifest_classes,
    read_class_ids,
    read_class_names,
    read_manifest,
    read_templates,
)
from mote.files.hashes import sha256_file, sha256_lines
from mote.files.shipped import default_templates


def hash_manifest(manifest: str, records: Sequence[Record]) -> str:
    """SHA-256 of a list: of its file, or where it is a folder, of `path label` lines with paths below the folder."""
    if Path(manifest).is_file():
        return sha256_file(manifest)
    return sha256_lines([f"{record.path.relative_to(manifest).as_posix()} {record.label}" for record in records])


def class_names(classes: str | None, manifest: str) -> list[str]:
    """Names from the class file, else from the manifest itself (folders, or names in a CSV)."""
    return manifest_classes(manifest) if classes is None else read_class_names(classes)


def records(
    manifest: str, root: str | None, names: Sequence[str] | None, classes: str | None, split: str | None
) -> list[Record]:
    """The records of a manifest; ids in the class file (a dataset's folder names) are understood beside the names.

    Raises:
        ManifestError: a list that cannot be read, or labels that its videos' folders contradict.
    """
    ids = read_class_ids(classes) if classes is not None else None
    found = read_manifest(manifest, root, names, split, ids=ids)
    if names is not None:
        check_folders(manifest, found, names, ids)
    return found


def templates(file: str | None) -> list[str]:
    """Prompt templates of the file, or the 28 of the method."""
    return default_templates() if file is None else read_templates(file)

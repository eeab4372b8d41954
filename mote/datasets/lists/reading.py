"""A list as its four settings name it: class names, records, hash; and prompt templates."""

from collections.abc import Sequence, Set
from pathlib import Path
from typing import NamedTuple

from mote.datasets.lists.agreement import check_folders
from mote.datasets.lists.class_files import counts_from_one, has_folder_names
from mote.datasets.lists.folders import VIDEO_SUFFIXES
from mote.datasets.lists.manifest import (
    ManifestError,
    Record,
    manifest_classes,
    read_class_ids,
    read_class_names,
    read_manifest,
    read_rows,
    read_templates,
)
from mote.datasets.lists.text import is_integer
from mote.files.hashes import sha256_file, sha256_lines
from mote.files.shipped import default_templates


class Listing(NamedTuple):
    """Where labelled files are listed; the configuration's sections `data` and `evaluation` each name one.

    Attributes:
        manifest: a list, or a folder with one subfolder per class, see `mote.datasets.lists.manifest`.
        root: where relative paths start; None: the folder of the list.
        split: value of the column `split` of a .csv list to keep; None: all rows.
        classes: class file; None: the list spells out its class names, or they come from elsewhere.
    """

    manifest: Path | str
    root: Path | str | None = None
    split: str | None = None
    classes: Path | str | None = None

    def names(self) -> list[str]:
        """Class names by label, of the class file, else of the list itself (its folders, or names in a .csv).

        Raises:
            ManifestError: a file that cannot be read, or a list without names.
        """
        return manifest_classes(self.manifest) if self.classes is None else read_class_names(self.classes)

    def folder_names(self) -> bool:
        """Whether `names` are a dataset's names of folders: from the list itself, or a class file of numbered lines."""
        return has_folder_names(self.classes) if self.classes is not None else True

    def records(
        self,
        names: Sequence[str] | None = None,
        suffixes: Set[str] = VIDEO_SUFFIXES,
        folders: Sequence[str] | None = None,
    ) -> list[Record]:
        """Records in the order of the list.

        Args:
            names: class names by label, with which labels must agree; None: labels are taken as they are. Ids in the
                class file (a dataset's own folder names) are understood beside the names.
            suffixes: what counts as a file of the list in a folder.
            folders: names of the classes' folders, where the list has no class file that says them.

        Raises:
            ManifestError: a list that cannot be read, or labels that the folders of the files contradict.
        """
        ids = None if self.classes is None else read_class_ids(self.classes)
        found = read_manifest(self.manifest, self.root, names, self.split, ids, suffixes)
        if names is not None:
            telling = check_folders(self.manifest, found, names, ids or folders)
            if telling < len(found):
                self._check_first(found)
        return found

    def _check_first(self, records: Sequence[Record]) -> None:
        """Raise ManifestError where the class file numbers from 1 and so, it seems, do the labels."""
        if self.classes is None or Path(self.manifest).is_dir() or not all(record.label for record in records):
            return
        if counts_from_one(self.classes) and is_integer(read_rows(self.manifest, self.root, self.split)[0].label):
            raise ManifestError(
                f"{self.manifest}: no label is 0, and {self.classes} counts from 1; labels count from 0, so take 1 away"
            )

    def sha256(self, records: Sequence[Record]) -> str:
        """SHA-256 of the list's file, or where it is a folder, of `path label` lines with paths below the folder."""
        if Path(self.manifest).is_file():
            return sha256_file(self.manifest)
        return sha256_lines(
            [f"{record.path.relative_to(self.manifest).as_posix()} {record.label}" for record in records]
        )


def templates(file: str | None) -> list[str]:
    """Prompt templates of the file, or the 28 of the method."""
    return default_templates() if file is None else read_templates(file)

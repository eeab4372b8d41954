"""Where inputs come from."""

from collections.abc import Sequence
from pathlib import Path

from mote.datasets.lists.folders import IMAGE_SUFFIXES, VIDEO_SUFFIXES, find_clips, say_left_out, search


def find_sources(places: Sequence[str | Path], kind: str = "video") -> list[Path]:
    """Files as given; folders searched for files of the `kind`, video or image, or for clips as folders of frames.

    Raises:
        FileNotFoundError: a place that does not exist, or a folder without such files.
    """
    found: list[Path] = []
    for place in map(Path, places):
        if not place.exists():
            what = "this link leads to nothing" if place.is_symlink() else f"no such {kind} file or folder"
            raise FileNotFoundError(f"{place}: {what}")
        inside = [place] if not place.is_dir() else find_clips(place) if kind == "video" else _images(place)
        if not inside:
            suffixes = VIDEO_SUFFIXES if kind == "video" else IMAGE_SUFFIXES
            raise FileNotFoundError(f"{place}: no {kind} in this folder; looked for {' '.join(sorted(suffixes))}")
        found += inside
    return found


def _images(folder: Path) -> list[Path]:
    files, left_out = search(folder, IMAGE_SUFFIXES)
    say_left_out(folder, left_out, "images")
    return files

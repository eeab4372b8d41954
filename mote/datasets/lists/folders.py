"""What lies below a folder: videos or images, and what is neither, which is left out, counted and said.

A file counts by its suffix, and where that is not known, or may be either (an animated PNG), by whether it can be
opened. Hidden files and folders are not looked at. Linked folders are, once each.
"""

import os
import warnings
from collections import Counter
from collections.abc import Sequence, Set
from pathlib import Path
from typing import NamedTuple

VIDEO_SUFFIXES = {".264", ".265", ".3g2", ".3gp", ".amv", ".apng", ".asf", ".avi", ".divx", ".dv", ".f4v", ".flv"}
VIDEO_SUFFIXES |= {".gif", ".h264", ".h265", ".hevc", ".ivf", ".m1v", ".m2t", ".m2ts", ".m2v", ".m4v", ".mjpeg"}
VIDEO_SUFFIXES |= {".mjpg", ".mk3d", ".mkv", ".mov", ".mp4", ".mpe", ".mpeg", ".mpg", ".mts", ".mxf", ".nut", ".ogm"}
VIDEO_SUFFIXES |= {".ogv", ".qt", ".rm", ".rmvb", ".ts", ".vob", ".webm", ".wmv", ".wtv", ".xvid", ".y4m"}
IMAGE_SUFFIXES = {".avif", ".bmp", ".gif", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".pnm"}
IMAGE_SUFFIXES |= {".ppm", ".tga", ".tif", ".tiff", ".webp"}
NEITHER = {".csv", ".heic", ".heif", ".json", ".npy", ".npz", ".safetensors", ".srt", ".tsv", ".txt", ".xml"}

LINK = "link to nothing"


class Found(NamedTuple):
    """Files below a folder, sorted: those that count, and those that are left out, with links to nothing."""

    files: list[Path]
    left_out: list[Path]


def search(folder: Path | str, suffixes: Set[str] = VIDEO_SUFFIXES) -> Found:
    """The files below `folder` that are videos (or images, or both: what `suffixes` are of), and those that are not.

    Raises:
        OSError: a folder that cannot be listed.
    """
    found, seen = Found([], []), set()
    for place, inner, names in os.walk(folder, followlinks=True, onerror=_raise):
        inner[:] = [name for name in inner if not name.startswith(".")]
        if (real := os.path.realpath(place)) in seen:  # a link to a folder already visited
            inner.clear()
            continue
        seen.add(real)
        for file in (Path(place, name) for name in names if not name.startswith(".")):
            (found.files if file.is_file() and counts_as(file, suffixes) else found.left_out).append(file)
    return Found(sorted(found.files), sorted(found.left_out))


def find_clips(folder: Path) -> list[Path]:
    """Videos below `folder`, sorted; where there is none, the folders (or itself) that hold images. Says the rest."""
    clips, left_out = search(folder)
    if not clips:
        images, left_out = search(folder, IMAGE_SUFFIXES)
        clips = sorted({image.parent for image in images})
    say_left_out(folder, left_out)
    return clips


def say_left_out(place: Path | str, left_out: Sequence[Path], kind: str = "videos") -> None:
    """Warn of what is left out of `place`, in one line: how many files, of which suffixes, and the first."""
    if left_out:
        ordered = sorted(left_out, key=lambda file: not _dangling(file))  # first, as they are mistakes
        counts = sorted(Counter(map(_name, ordered)).items(), key=lambda item: (item[0] != LINK, -item[1]))
        kinds = [f"{count} {name}" for name, count in counts[:5]]
        more = f" and {sum(count for _, count in counts[5:])} more" if len(counts) > 5 else ""
        text = f"{place}: {len(left_out)} left out, which are no {kind}: {', '.join(kinds)}{more}"
        warnings.warn(f"{text}; such as {os.path.relpath(ordered[0], place)}", stacklevel=2)


def counts_as(file: Path, suffixes: Set[str]) -> bool:
    """Whether a file is a video, or image, or either: one of what `suffixes` are of."""
    suffix, videos = file.suffix.lower(), suffixes >= VIDEO_SUFFIXES
    if suffix in suffixes:
        return True
    if suffix in NEITHER or (suffix in VIDEO_SUFFIXES | IMAGE_SUFFIXES and not (videos and suffix == ".png")):
        return False
    return (videos and _is_video(file)) or (suffixes >= IMAGE_SUFFIXES and _is_image(file))


def _is_video(file: Path) -> bool:
    from mote.datasets.decoding.streams import is_video  # here, so that the names of suffixes cost nothing

    return is_video(file)


def _is_image(file: Path) -> bool:
    from PIL import Image

    try:
        with Image.open(file):
            return True
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return False


def _dangling(file: Path) -> bool:
    return file.is_symlink() and not file.exists()


def _name(file: Path) -> str:
    return LINK if _dangling(file) else file.suffix.lower() or "without suffix"


def _raise(error: OSError) -> None:
    raise error

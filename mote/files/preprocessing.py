"""How a frame becomes the square image that a network takes: a value that belongs to the weights of the network.

It is kept in model folders (`preprocessing` in `model.json`) beside mean and standard deviation. The names are those of
open_clip's preprocessing configuration; `mote.datasets.transforms` carries it out.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

INTERPOLATIONS = ("bicubic", "bilinear")
RESIZE_MODES = ("shortest", "longest", "squash", "crop")


class Preprocessing(NamedTuple):
    """What is done to the pixels before mean and standard deviation; the defaults are those of CLIP.

    interpolation: "bicubic" or "bilinear", both antialiased, on uint8.
    resize: "shortest": the short side becomes `size`, then the central square is taken; "longest": the long side does,
    and bars fill the rest; "squash": both sides, whatever their ratio; "crop": the central square first, then `size`.
    fill: colour of the bars, RGB in 0..255.
    """

    interpolation: str = "bicubic"
    resize: str = "shortest"
    fill: tuple[int, int, int] = (0, 0, 0)

    def changed(self, **given: Any) -> "Preprocessing":
        """This value with the fields that are not None in their places."""
        return self._replace(**{name: value for name, value in given.items() if value is not None})


AS_CLIP = Preprocessing()
CUT_FIRST = Preprocessing("bilinear", "crop")  # of networks without preprocessing of their own, and of older folders

EARLIER = (  # said of a folder that does not name its preprocessing
    "trained before models named their preprocessing; frames are prepared as they were in its training: the central "
    "square, resized bilinearly"
)


def read_preprocessing(meta: Mapping[str, Any]) -> Preprocessing:
    """The value in the content of a `model.json`; `CUT_FIRST` where it was written before there was a choice.

    Such a network was trained on frames prepared in that way, so it keeps seeing them so.

    Raises:
        ValueError: it is there, and is none.
    """
    given = meta.get("preprocessing")
    if given is None:
        return CUT_FIRST
    if not isinstance(given, Mapping) or set(given) != set(Preprocessing._fields):
        raise ValueError(f"preprocessing must have {', '.join(Preprocessing._fields)}, got {given!r}")
    return checked(**given)


def checked(interpolation: object, resize: object, fill: object) -> Preprocessing:
    """A `Preprocessing` of values that came from a file; raises ValueError, naming the field."""
    fill = (fill,) * 3 if isinstance(fill, int) else fill
    for name, value, known in (("interpolation", interpolation, INTERPOLATIONS), ("resize", resize, RESIZE_MODES)):
        if value not in known:
            raise ValueError(f"preprocessing: {name} must be one of {', '.join(known)}, got {value!r}")
    levels = tuple(fill) if isinstance(fill, list | tuple) else ()
    if len(levels) != 3 or not all(type(level) is int and 0 <= level <= 255 for level in levels):
        raise ValueError(f"preprocessing: fill must be three levels in 0..255, got {fill!r}")
    return Preprocessing(str(interpolation), str(resize), levels)

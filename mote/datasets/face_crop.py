"""The largest face of an image, upright and square, as an expression model was trained to see it; needs OpenCV.

Found with the cascades of Viola and Jones (CVPR 2001) that come with OpenCV 4: frontal faces, then, in the upper part
of the face, the two eyes, whose line is made horizontal. A clip is cut by one square, the median over the frames with a
face, so that the head moves in it as it moved before.
"""

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from jaxtyping import Float64, UInt8

from mote.files.addresses import without_secrets

if TYPE_CHECKING:
    import cv2

MARGIN = 0.1  # of the detected side, added on every side
EYE_WIDTH = 200  # pixels of the face's width where eyes are looked for
STEEPEST = 30.0  # degrees; eyes on a steeper line were not found right
INSTALL = "finding faces needs OpenCV 4: pip install 'mote-video[faces]', or 'opencv-python-headless<5'"


NO_FACE = "no face was found; give images of faces from the front, or leave --faces out"


class NoFaceError(ValueError):
    """An image or clip in which no face was found."""


class Square(NamedTuple):
    """Centre and side in pixels, and how far the line of the eyes falls from left to right, in degrees."""

    x: float
    y: float
    side: float
    roll: float


def check_installed() -> None:
    """Raise ValueError, saying what to install, where faces cannot be found."""
    _cascade("frontalface_default")


def find_face(pixels: UInt8[np.ndarray, "H W 3"]) -> Square | None:
    """The largest face of an RGB image; None where there is none; roll 0 where its eyes were not found."""
    import cv2

    grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    least = max(24, min(grey.shape) // 8)
    boxes = _cascade("frontalface_default").detectMultiScale(cv2.equalizeHist(grey), 1.1, 5, minSize=(least, least))
    if not len(boxes):
        return None
    x, y, side, _ = (int(value) for value in max(boxes, key=lambda box: box[2]))
    upper = cv2.equalizeHist(grey[y : y + int(0.6 * side), x : x + side])
    scaled = cv2.resize(upper, None, fx=EYE_WIDTH / side, fy=EYE_WIDTH / side, interpolation=cv2.INTER_CUBIC)
    eyes = _cascade("eye").detectMultiScale(scaled, 1.05, 5, minSize=(EYE_WIDTH // 8, EYE_WIDTH // 8))
    return Square(x + side / 2, y + side / 2, float(side), _roll([tuple(map(float, eye)) for eye in eyes]))


def face_of_frame(pixels: UInt8[np.ndarray, "H W 3"]) -> Float64[np.ndarray, "4"]:
    """`find_face` as numbers, NaN where there is no face. Raises ValueError where OpenCV is not installed."""
    check_installed()
    return np.array(find_face(pixels) or [np.nan] * 4, np.float64)


def median_face(squares: Float64[np.ndarray, "T 4"], name: str | Path) -> Square:
    """The square by which a clip is cut, from those of its frames (`face_of_frame`).

    Raises:
        NoFaceError: naming the clip by `name`, where no frame shows a face.
    """
    found = squares[~np.isnan(squares[:, 0])]
    if not len(found):
        raise NoFaceError(f"{without_secrets(name)}: {NO_FACE}")
    return Square(*np.median(found, axis=0).tolist())


def face_of_image(pixels: UInt8[np.ndarray, "H W 3"], name: str | Path) -> UInt8[np.ndarray, "S S 3"]:
    """The face of an image, cut out.

    Raises:
        NoFaceError: naming it by `name`, where it shows no face.
        ValueError: OpenCV is not installed.
    """
    return cut(pixels, median_face(face_of_frame(pixels)[None], name))


def cut(pixels: UInt8[np.ndarray, "H W 3"], square: Square) -> UInt8[np.ndarray, "S S 3"]:
    """The square with MARGIN around it, turned upright; what lies outside the image repeats its border."""
    import cv2

    side = round(square.side * (1 + 2 * MARGIN))
    turn = cv2.getRotationMatrix2D((square.x, square.y), square.roll, 1.0)
    turn[:, 2] += (side - 1) / 2 - np.array([square.x, square.y])
    return cv2.warpAffine(pixels, turn, (side, side), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def _roll(eyes: list[tuple[float, ...]]) -> float:
    """Angle of the line through the pair of eyes (x, y, width, height) that is most level, in degrees."""
    middles = [(x + width / 2, y + height / 2) for x, y, width, height in eyes]
    pairs = [(a, b) for a in middles for b in middles if b[0] - a[0] > EYE_WIDTH / 4]
    angles = [float(np.degrees(np.arctan2(b[1] - a[1], b[0] - a[0]))) for a, b in pairs]
    level = min(angles, key=abs, default=0.0)
    return level if abs(level) <= STEEPEST else 0.0


@cache
def _cascade(name: str) -> "cv2.CascadeClassifier":
    try:
        import cv2
        import cv2.data

        cascade = cv2.CascadeClassifier(f"{cv2.data.haarcascades}haarcascade_{name}.xml")
    except (ImportError, AttributeError):
        raise ValueError(INSTALL) from None
    if cascade.empty():
        raise ValueError(INSTALL)
    return cascade

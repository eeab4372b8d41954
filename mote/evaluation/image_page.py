"""The page of a result on images: its numbers, and the images that were named with most certainty, right and wrong.

Of task=expression also what was mined, and faces of the minor classes with what the network looks at.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional as F

from mote.datasets.images import ImageDataset
from mote.evaluation.page import Contents, draw
from mote.inference.images import ImageClassifier
from mote.metrics.result_files import Summary
from mote.reporting.contact_sheet import ShownClip, pick_clips, shown_clip
from mote.reporting.imbalance_sections import imbalance_sections, overlay_sections

IMAGES = 6  # best and worst, at most so many of each
SIDE = 144  # pixels of an image on the page


def draw_image_page(out: Path, name: str, adjusted: ImageClassifier, dataset: ImageDataset) -> None:
    """Write the page of the result files in `out`, see `draw`.

    dataset: the images that were scored, in order.
    """

    def contents(result: Summary, predictions: list[dict[str, str]], folder: Path) -> Contents:
        if adjusted.counts is None:
            return {"clips": shown_images(dataset, predictions), "note": SCORED}
        groups = result.get("groups", {})  # none where all classes are of equal size
        minor = {c for part in ("medium", "tail") if part in groups for c in groups[part]["classes"]}
        shown, of = (minor, "Minor classes") if groups else ({*dataset.data.classes}, "Faces")
        faces = overlay_sections(*shown_faces(adjusted, dataset, predictions, shown), of)
        return {"extra": [*imbalance_sections(result, folder), *faces]}

    draw(out, name, contents)


def shown_images(dataset: ImageDataset, predictions: Sequence[Mapping[str, str]]) -> list[ShownClip]:
    """The best and the worst images, see `pick_clips`, as the network saw them."""

    def image(place: int) -> ShownClip:
        row = predictions[place]
        pixels = as_seen(dataset.image(0, place))
        return shown_clip(row, overlay(pixels, None)[None], under=[f"image of class {row['label']}"])

    return [image(place) for part in pick_clips(predictions, IMAGES) for place in part]


def as_seen(image: UInt8[Tensor, "C S S"]) -> UInt8[np.ndarray, "S S 3"]:
    """What a network saw, as a picture; of one channel grey."""
    return np.repeat(image.permute(1, 2, 0).numpy(), 4 - len(image), axis=2)[..., :3]


def shown_faces(
    adjusted: ImageClassifier, dataset: ImageDataset, predictions: Sequence[Mapping[str, str]], shown: set[str]
) -> tuple[list[ShownClip], list[ShownClip]]:
    """(best, worst) faces of the classes `shown`, see `pick_clips`: face, attention of true and of predicted class."""
    places = [place for place, row in enumerate(predictions) if row["label"] in shown]
    chosen = pick_clips([predictions[place] for place in places], IMAGES)
    names = dataset.data.classes

    @torch.inference_mode()
    def image(place: int) -> ShownClip:
        row, image = predictions[place], dataset.image(0, place)
        pixels = as_seen(image)
        share = adjusted.logits_and_places(image[None])[1][0].float().softmax(dim=0).cpu()  # (K, h, w)
        maps = [share[names.index(row[key])].numpy() for key in ("label", "predicted")]
        full = max(float(map_.max()) for map_ in maps)
        frames = [overlay(pixels, None), *(overlay(pixels, map_ / full) for map_ in maps)]
        where = zip(("true", "predicted"), (row["label"], row["predicted"]), maps, strict=True)
        under = [f"{kind}: {name}, at most {100 * map_.max():.0f} %" for kind, name, map_ in where]
        return shown_clip(row, np.stack(frames), under=["the face", *under])

    best, worst = ([image(places[i]) for i in part] for part in chosen)
    return best, worst


def overlay(
    face: UInt8[np.ndarray, "H W 3"], share: Float[np.ndarray, "h w"] | None, side: int = SIDE
) -> UInt8[np.ndarray, "S S 3"]:
    """A face, scaled to `side`, and over it a map of values in [0, 1], which covers more the greater it is."""
    pixels = torch.from_numpy(face.astype(np.float32)).permute(2, 0, 1)[None]
    large = F.interpolate(pixels, (side, side), mode="bicubic").clamp(0, 255)[0].permute(1, 2, 0).numpy()
    if share is None:
        return large.round().astype(np.uint8)
    map_ = torch.from_numpy(np.ascontiguousarray(share))[None, None]
    smooth = F.interpolate(map_, (side, side), mode="bilinear")[0, 0].numpy().clip(0, 1)
    colour = 255 * matplotlib.colormaps["inferno"](smooth)[..., :3]
    cover = (0.25 + 0.5 * smooth)[..., None]
    return ((1 - cover) * large + cover * colour).round().astype(np.uint8)


SCORED = "Each image as the network saw it, cut and scaled, and the classes that it gave most probability."

"""Pages of an autoencoder: its numbers on held-out images, and sheets of images whose rows say what they are."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from jaxtyping import Float
from markupsafe import Markup
from torch import Tensor

from mote.reporting.evaluation_head import model_of
from mote.reporting.image_grid import grid_pixels, png_uri
from mote.reporting.page import Head, Section, command_line, day, percent, write_page


class Sheet(NamedTuple):
    """Images in [0, 1], row by row, and what each row shows."""

    images: Float[Tensor, "N C S S"]
    columns: int
    rows: Sequence[str]


def write_autoencoder_page(path: Path | str, result: Mapping, sheets: Mapping[str, Sheet]) -> Path:
    """Write the page of a result of task=autoencoder to `path` and return it; sheets by kind, see `CAPTIONS`."""
    origin = result.get("provenance") or {}
    sections = [
        Section(kind.capitalize(), CAPTIONS[kind], markup=sheet_markup(sheet)) for kind, sheet in sheets.items()
    ]
    sections = [*sections[:1], Section("Numbers", NUMBERS, numbers(result)), *sections[1:]]
    sections.append(Section("Provenance", facts=origin))
    head = Head(
        conclusion(result),
        _cards(result),
        model_of(origin),
        f"{result['listed']} held-out images",
        day(origin.get("date")),
        command_line(),
    )
    return write_page(path, f"Autoencoder: {result.get('task', Path(path).stem)}", sections, head)


def write_samples_page(path: Path | str, sheet: Sheet, run: str, seed: int) -> Path:
    """Write the page of images that `mote sample` drew to `path` and return it."""
    count = len(sheet.images)
    cards = [(str(count), "images"), (str(seed), "seed of the draw")]
    head = Head(f"{count} images drawn from the prior of the autoencoder.", cards, run, "", "", command_line())
    text = "Sorted by the Gaussian of the prior (mode) that each was drawn from."
    sections = [
        Section("Samples", text, markup=sheet_markup(sheet)),
        Section("Provenance", facts={"run": run, "seed": seed}),
    ]
    return write_page(path, "Samples of an autoencoder", sections, head)


def sheet_markup(sheet: Sheet) -> Markup:
    """A sheet as HTML for `Section.markup`: each row of images below its words."""
    parts = [Markup('<div class="strips">')]
    for row, images in enumerate(sheet.images.split(sheet.columns)):
        words = sheet.rows[row] if row < len(sheet.rows) else ""
        source = png_uri(grid_pixels(images, sheet.columns, scale=2))
        parts.append(
            Markup('<figure><figcaption>{}</figcaption><img src="{}" alt="{}"></figure>').format(
                words, source, f"{len(images)} images: {words}" if words else f"{len(images)} images"
            )
        )
    return Markup("\n").join([*parts, Markup("</div>")])


def conclusion(result: Mapping) -> str:
    """One sentence: how well images come back, how far samples are from real ones, and whether the modes are used."""
    parts = [f"Images come back with a mean squared error of {result['reconstruction']:.4g} per pixel"]
    if "frechet" in result:
        back = result["frechet_reconstructions"]
        parts.append(
            f"samples lie {result['frechet']:.4g} from real images (Fréchet distance; reconstructions {back:.4g})"
        )
    if "coverage" in result:
        parts.append(f"{result['coverage']['used']} of {result['modes']} modes are used")
    p = result["energy"]["p"]
    fits = "no difference from the prior is seen" if p >= 0.05 else "codes differ from the prior"
    return f"{'; '.join(parts)}; {fits} (energy test, p = {p:.2g})."


def numbers(result: Mapping) -> list[dict[str, str]]:
    """Numbers of a result and what they mean."""
    rows = [("reconstruction", f"{result['reconstruction']:.5g}", "mean squared error of pixels in 0 to 1")]
    for name, meaning in LATENT.items():
        if name in result["latent"]:
            rows.append((f"latent: {name}", f"{result['latent'][name]:.3f}", meaning))
    energy = result["energy"]
    rows.append(("energy test: p", f"{energy['p']:.3g}", f"{energy['codes']} codes against draws from the prior"))
    for key, meaning in FRECHET.items():
        if key in result:
            rows.append((key.replace("_", " "), f"{result[key]:.4g}", meaning))
    if "coverage" in result:
        rows.append(("modes used", str(result["coverage"]["used"]), f"of {result['modes']} Gaussians of the prior"))
        matched = percent(result["agreement"]["matched"])
        rows.append(("modes are classes (%)", matched, "of held-out images, modes matched to classes at best"))
    if "confident" in result:
        rows.append(("confident samples (%)", percent(result["confident"]), "of which the judge is sure"))
    return [{"measure": name, "value": value, "what it is": meaning} for name, value, meaning in rows]


def _cards(result: Mapping) -> list[tuple[str, str]]:
    cards = [(f"{result['reconstruction']:.4g}", "reconstruction error")]
    if "frechet" in result:
        cards.append((f"{result['frechet']:.4g}", "Fréchet distance of samples"))
    if "coverage" in result:
        cards.append((f"{result['coverage']['used']} of {result['modes']}", "modes used"))
        cards.append((f"{percent(result['agreement']['matched'])} %", "modes are classes"))
    return [*cards, (str(result["dimensions"]), f"dimensions of a code ({result['method']})")]


LATENT = {
    "cdf": "distance of distribution functions along axes, over that of a perfect encoder: 1 is perfect",
    "covariance": "the same of covariances",
    "mean": "the same of means",
}
FRECHET = {
    "frechet": "samples against held-out images, in the judge's features",
    "frechet_reconstructions": "reconstructions against held-out images",
    "frechet_midpoints": "images half-way between two codes against held-out images",
}
NUMBERS = "On held-out images. The judge is a classifier of our own, named in the provenance."
CAPTIONS = {
    "samples": "Images decoded from draws of the prior: what the autoencoder makes up.",
    "reconstructions": "Held-out images, and below each what comes back of it.",
    "interpolations": "Steps on the way from the code of one held-out image (left) to that of another (right).",
}

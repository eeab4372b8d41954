"""The text files of `data/` that are part of the package: class names and prompt templates."""

from pathlib import Path


def default_templates() -> list[str]:
    """The 28 prompt templates of the method: photo, video, example, demonstration x seven ways to name the action."""
    return [line for line in data_file("templates/kinetics28.txt").read_text(encoding="utf-8").splitlines() if line]


def data_file(relative: str) -> Path:
    """Path of a text file of `data/`, such as "classes/kinetics400.txt", in the installed package or a checkout.

    Raises:
        FileNotFoundError: it is in neither place.
    """
    here = Path(__file__).resolve()
    places = [folder / "data" / relative for folder in (here.parents[1], here.parents[2])]
    for place in places:
        if place.is_file():
            return place
    raise FileNotFoundError(f"data file {relative}: neither {places[0]} nor {places[1]} exists; reinstall mote")

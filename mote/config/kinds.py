"""Kinds of values of settings: their ranges, and how one that is outside is explained.

Numbers are finite, and no larger than anything that could be meant: a number past its range is a slip of the keyboard,
which would otherwise be found when memory runs out or a loss is not a number.
"""

from collections.abc import Sized
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

Level = Annotated[int, Field(ge=0, le=255)]  # of a colour channel
Share = Annotated[float, Field(ge=0, le=1)]  # a fraction or a probability, 0 to 1
ShareBelowOne = Annotated[float, Field(ge=0, lt=1)]
ShareAboveZero = Annotated[float, Field(gt=0, le=1)]
Positive = Annotated[int, Field(ge=1, le=10**9)]
Natural = Annotated[int, Field(ge=0, le=10**9)]
NonNegative = Annotated[float, Field(ge=0, le=1e9)]
AboveZero = Annotated[float, Field(ge=1e-20, le=1e9)]
Moderate = Annotated[float, Field(ge=1e-3, le=1e3)]  # what divides
Exponent = Annotated[float, Field(ge=0, le=1e3)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]  # what torch takes
Few = Annotated[int, Field(ge=0, le=1000)]  # layers, worker processes
Count = Annotated[int, Field(ge=1, le=1000)]  # experts, heads, frames, views
Pixels = Annotated[int, Field(ge=1, le=4096)]
Size = Annotated[int, Field(ge=1, le=10_000)]  # of vectors
Many = Annotated[int, Field(ge=1, le=10**6)]  # samples of a batch, epochs


def _text(value: str) -> str:
    if not value.strip():
        raise ValueError("is empty; leave it out, or write null for no value")
    if any(ord(letter) < 32 or ord(letter) == 127 for letter in value):
        raise ValueError("has a line break or another control character")
    return value


def _place(value: str) -> str:
    if value.startswith("~"):
        raise ValueError("`~` is not the home folder here; write the path out")
    if len(value.encode()) > 4000 or any(len(part.encode()) > 255 for part in value.split("/")):
        raise ValueError("is too long for a path; 255 bytes at most between slashes")
    return value


def _file_name(value: str) -> str:
    if "/" in value or "\\" in value or value.startswith(".") or value != value.strip():
        raise ValueError("is the name of files in one folder: no slashes, no leading dot, no blanks around it")
    if len(value.encode()) > 150:
        raise ValueError("is too long for the name of a file; 150 bytes at most")
    return value


def _different(values: tuple[str, ...]) -> tuple[str, ...]:
    if twice := sorted({value for value in values if values.count(value) > 1}):
        raise ValueError(f"names {', '.join(twice)} twice; keep one of them")
    return values


def _filled(values: Sized) -> Sized:
    if not len(values):
        raise ValueError("is empty; at least one is needed")
    return values


Text = Annotated[str, AfterValidator(_text)]  # something is written, in one line
Place = Annotated[Text, AfterValidator(_place)]  # a file or folder, or a name where one can stand
FileName = Annotated[Text, AfterValidator(_file_name)]
Different = AfterValidator(_different)  # of a list of names
Filled = AfterValidator(_filled)  # of a list or a mapping


class Section(BaseModel):
    """Base of all sections: frozen, strict, unknown keys refused, numbers finite where nothing else is said."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False)

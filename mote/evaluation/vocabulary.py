"""Which classes compete in an evaluation: those that the labels number, and those that a union adds."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from mote.datasets.lists.manifest import ManifestError, read_class_names
from mote.datasets.lists.overlap import letters
from mote.datasets.lists.reading import Listing
from mote.files.names import in_words, made_words, plain


@runtime_checkable
class Tuned(Protocol):
    """A model that knows the classes that it was tuned on."""

    @property
    def classes(self) -> list[str] | None:
        """Their names by label; None: it has none."""
        ...


def own_classes(classifier: Tuned, listing: Listing, *, new: bool = False) -> list[str]:
    """The classes that the labels of a list number: of the class file, else of the model, else of the list itself.

    Names that are those of folders (see `Listing.folder_names`) are put in words, unless they are the classes that the
    model was tuned on. new: the list has classes of its own, whatever the model was tuned on.
    """
    if listing.classes is None and classifier.classes is not None and not new:
        return classifier.classes
    names = listing.names()
    if not listing.folder_names() or names == classifier.classes:
        return names
    words = list(map(in_words, names))
    return classifier.classes or words if [*map(plain, classifier.classes or ())] == words else words


def words_warning(own: Sequence[str], listing: Listing, classifier: Tuned) -> list[str]:
    """That class names were made of folder names, where they were; else nothing."""
    if (listing.classes is None and own == classifier.classes) or not listing.folder_names():
        return []
    names = listing.names()
    return made_words(names, own) if len(names) == len(own) else []


def added_classes(own: Sequence[str], union: str | None) -> list[str]:
    """Names of the class file `union` that `own` does not have, up to case, spaces, underscores and hyphens.

    Raises:
        ManifestError: the file cannot be read, or has no such name.
    """
    if union is None:
        return []
    added = {letters(name): name for name in reversed(read_class_names(union))}  # the first spelling of each
    for name in own:
        added.pop(letters(name), None)
    if not added:
        raise ManifestError(f"{union}: all of its classes are in the vocabulary already; the union adds nothing")
    return list(reversed(added.values()))


def order_warning(own: Sequence[str], tuned: Sequence[str] | None) -> list[str]:
    """That the classes are those of tuning in another order, which is rarely meant; else nothing."""
    if tuned is None or [*own] == [*tuned] or sorted(own) != sorted(tuned):
        return []
    first = next(label for label, name in enumerate(own) if name != tuned[label])
    where = f"class {first} is {own[first]!r}, there {tuned[first]!r}"
    return [f"the classes are those of tuning in another order: {where}"]

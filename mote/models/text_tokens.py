"""What a text tower sees of class names: its tokens, of which it reads only so many."""

import warnings
from collections.abc import Callable, Sequence

from torch import Tensor

from mote.files.names import shown


def check_tokens(tokenizer: Callable[..., Tensor], names: Sequence[str], templates: Sequence[str]) -> None:
    """Refuse names that are the same to the text tower, and warn of those of which it does not read the end.

    A tower reads `context_length` tokens: what is longer is cut, and names may differ in what is cut only.

    Raises:
        ValueError: names whose tokens are equal in every template.
    """

    def tokens(template: str, chosen: Sequence[str], **length: int) -> list[tuple[int, ...]]:
        rows = tokenizer([template.replace("{}", name) for name in chosen], **length).tolist()
        return [tuple(row) for row in rows]

    same: dict[tuple[int, ...], list[str]] = {}
    for name, row in zip(names, tokens(templates[0], names), strict=True):
        same.setdefault(row, []).append(name)
    for twins in (twins for twins in same.values() if len(twins) > 1):
        if len({tuple(tokens(template, [name])[0] for template in templates) for name in twins}) < len(twins):
            listed = " and ".join(shown(_shortened(name)) for name in twins[:3])
            raise ValueError(
                f"class names {listed} are the same {len(tokens(templates[0], twins[:1])[0])} tokens, so no text tells"
                " them apart; change or shorten them"
            )
    context = getattr(tokenizer, "context_length", None)
    if context is None:
        return
    cut = [name for name in names if _is_cut(tokens, name, templates, context)]
    if cut:
        more = f" and {len(cut) - 3} more" if len(cut) > 3 else ""
        warnings.warn(
            f"the text tower reads {context} tokens, and does not see the end of"
            f" {', '.join(repr(_shortened(name)) for name in cut[:3])}{more}",
            stacklevel=3,
        )


def _shortened(name: str) -> str:
    """A long name with its beginning and its end, for a message."""
    return name if len(name) <= 60 else f"{name[:28]}...{name[-28:]}"


def _is_cut(tokens: Callable[..., list[tuple[int, ...]]], name: str, templates: Sequence[str], context: int) -> bool:
    """Whether `name` loses its end in a template: with room for one token more there would be one more."""
    for template in templates:
        if len(template.encode()) + len(name.encode()) <= context:  # at most a token a byte, and {} for start and end
            continue
        (short,), (long,) = tokens(template, [name]), tokens(template, [name], context_length=context + 1)
        (padding,) = tokens("{}", [""], context_length=context + 1)
        if long[:-1] != short or long[-1] != padding[-1]:
            return True
    return False

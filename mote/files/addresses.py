"""Addresses such as `https://host/a.mp4`, as they are told from paths and as they are shown: without secrets.

A user and a password, and what stands behind ? or # (where signatures of buckets and keys of services stand), are in no
message and in no result.
"""

import hashlib
import os
import re
import textwrap
from pathlib import Path
from urllib.parse import urlsplit

SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://", re.DOTALL)
LOST_SLASH = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/[^/]")  # what pathlib makes of an address
IN_TEXT = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://[^\s'\"<>]*[^\s'\"<>.,;:)\]]")


def scheme(place: Path | str) -> str | None:
    """`https` of an address, in lower case; None of a path.

    Raises:
        ValueError: an address that was made a Path.
    """
    if isinstance(place, str):
        found = SCHEME.match(place)
        return found[1].lower() if found else None
    text = os.fspath(place)
    if LOST_SLASH.match(text) and not os.path.lexists(text):
        raise ValueError(f"{without_secrets(text.replace(':/', '://', 1))}: give an address as text, not as a Path")
    return None


def without_secrets(place: Path | str) -> str:
    """A path as it is, an address without user, password, query and fragment."""
    text = str(place)
    if not SCHEME.match(text):
        return text
    start, _, rest = text.partition("://")
    rest = re.split(r"[?#]", rest, maxsplit=1)[0]
    host, slash, path = rest.partition("/")
    return f"{start}://{host.rpartition('@')[2]}{slash}{path}"


def public_name(place: Path | str) -> str:
    """What a result calls an input: a path as it is, an address without its secrets.

    Addresses that differ only behind ? or # keep different names: eight digits of a hash stand for it.
    """
    shown = without_secrets(place)
    if scheme(place) is None or not (found := re.search(r"[?#].*", str(place), re.DOTALL)):
        return shown
    return f"{shown}?{hashlib.sha256(found[0].encode('utf-8', 'surrogatepass')).hexdigest()[:8]}"


def cleaned(text: str, place: str) -> str:
    """A message of another library about `place`, in one line, without the secrets of any address in it."""
    text = IN_TEXT.sub(lambda found: without_secrets(found[0]), " ".join(text.split()))
    for secret in sorted(_secrets(place), key=len, reverse=True):
        text = text.replace(secret, "...")
    return text


def one_line(error: BaseException) -> str:
    """Type and message of an exception, in one line of at most 300 characters; what to install if a module lacks."""
    hint = f"; pip install {error.name}" if isinstance(error, ModuleNotFoundError) else ""
    return textwrap.shorten(f"{type(error).__name__}: {error}", 300) + hint


def _secrets(place: str) -> set[str]:
    try:
        parts = urlsplit(place)
    except ValueError:
        return set()
    user = parts.netloc.rpartition("@")[0]
    values = {*user.split(":", 1), user, parts.query, parts.fragment}
    values |= {pair.partition("=")[2] for pair in parts.query.split("&")}
    return {value for value in values if len(value) > 3}

"""Names and downloads of models on the Hugging Face Hub; loads none."""

import re
from pathlib import Path

from mote.files.addresses import one_line
from mote.files.run_directory import CONFIG, DESCRIPTION, TEXT, WEIGHTS
from mote.models.names import architectures


class HubError(OSError):
    """The Hub could not be reached or refused; the message is one line."""


def is_repo_id(name: str) -> bool:
    """Whether `name` reads `organisation/name` and is no open_clip architecture (they have slashes too: ViT-B/16)."""
    return bool(re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", name)) and name.replace("/", "-") not in architectures()


def is_local(name: str) -> bool:
    """Whether `name` can only be a path here: it begins as one, or with `runs` or a folder that is here."""
    first, slash, _ = name.partition("/")
    return bool(slash) and (first in ("", ".", "..", "~", "runs") or Path(first).is_dir())


def download(repo: str, revision: str | None = None) -> Path:
    """Folder of a model of the Hub in the local cache, fetched when it is not there.

    Raises:
        HubError: no network and not in the cache, or no such repository or no access.
    """
    import huggingface_hub  # here, as the names are looked at before anything is loaded

    try:
        files = [WEIGHTS, DESCRIPTION, TEXT, "backbone.*", "clip.*", CONFIG, "README.md"]
        return Path(huggingface_hub.snapshot_download(repo, revision=revision, allow_patterns=files))
    except Exception as error:  # the client's errors have no common base, and differ between its versions
        raise HubError(
            f"{repo}: no such folder here, and it could not be fetched from the Hugging Face Hub: {one_line(error)}"
        ) from error

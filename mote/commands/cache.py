"""`mote cache`."""

import argparse
from pathlib import Path

from mote.commands.verbs import Verbs, add_verb


def add(verbs: Verbs) -> None:
    """Declare the verb."""
    cache = add_verb(
        verbs,
        "cache",
        _run,
        "how large the cache of frame features is, or clear it",
        writes="nothing; clear removes the features, which mote eval makes again",
        examples=(
            "mote cache size",
            "mote cache clear",
        ),
    )
    cache.add_argument("what", choices=("size", "clear"), help="print its size, or remove what is in it")
    cache.add_argument("folder", nargs="?", help="the cache folder (default: the user's, which `mote eval` fills)")


def _run(arguments: argparse.Namespace) -> int:
    from mote.datasets.cache.feature_cache import clear, default_folder, usage_line

    folder = Path(arguments.folder) if arguments.folder else default_folder()
    if arguments.folder is None and not folder.exists():
        print(f"{folder}: nothing cached")
    elif arguments.what == "size":
        print(usage_line(folder))
    else:
        print(f"{folder}: {clear(folder) / 1e9:.3g} GB freed")
    return 0

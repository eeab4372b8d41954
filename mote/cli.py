"""The `mote` command. Heavy imports stay inside the verbs, so `mote --help` answers at once.

A user's mistake is one line on stderr and exit code 2; `--traceback` shows where it came from.
"""

import argparse
import os
import sys
import warnings
from collections.abc import Sequence
from typing import NoReturn

from mote import __version__
from mote.commands import (
    cache,
    collect,
    compact,
    compare,
    config,
    data,
    demo,
    diagnose,
    encode,
    evaluate,
    export,
    fit,
    frontier,
    predict,
    push,
    sample,
    search,
    train,
)
from mote.commands.verbs import is_told_elsewhere


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Run one verb and exit: 0 done, 1 done but some files were bad, 2 the user's mistake."""
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # before torch: of a process that died we say one line
    parser = _parser()
    arguments, rest = parser.parse_known_args(argv)
    if rest and hasattr(arguments, "config") and not any(item.startswith("-") for item in rest):
        arguments.config += rest  # overrides that stand behind an option, which argparse does not collect
    elif rest:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    if not arguments.traceback:  # one line, without the place in our code
        warnings.formatwarning = lambda message, *_, **__: f"mote: warning: {message}\n"
    try:
        code = arguments.verb(arguments)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except Exception as error:
        own = type(error).__module__.startswith("mote.")  # errors of our own are always about the user's files
        if arguments.traceback or not (own or isinstance(error, (ValueError, ArithmeticError, OSError, RuntimeError))):
            raise
        if not is_told_elsewhere(error):
            print(f"mote: error: {_explain(error)}", file=sys.stderr)
        code = 2
    sys.exit(code)


def _explain(error: Exception) -> str:
    text = str(error)
    if text.startswith("DataLoader worker"):
        killed = "a process that loads videos was killed by the system, as a rule for want of memory"
        return f"{killed}; lower data.workers ({' '.join(text.split())})"
    # A plain RuntimeError may be ours (no network, say) or come from far below, where the traceback may be needed.
    return f"{text} (mote --traceback shows where)" if type(error) is RuntimeError else text


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="mote", description="Image-text models for video: train, evaluate, predict.")
    parser.add_argument("--version", action="version", version=f"mote {__version__}")
    parser.add_argument("--traceback", action="store_true", help="show the full traceback of an error")
    verbs = parser.add_subparsers(metavar="VERB", required=True)

    for command in (
        demo,
        train,
        evaluate,
        predict,
        collect,
        encode,
        search,
        fit,
        sample,
        compact,
        export,
        push,
        compare,
        frontier,
        diagnose,
        data,
        cache,
        config,
    ):
        command.add(verbs)
    return parser

"""The `mote` command. Heavy imports stay inside the verbs, so `mote --help` answers at once.

A user's mistake is one line on stderr and exit code 2; `--traceback` shows where it came from.
"""

import argparse
import io
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
    doctor,
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
from mote.commands.completion import complete
from mote.commands.parsing import Parser
from mote.commands.verbs import is_told_elsewhere

GROUPS = {  # of verbs, as `mote` alone lists them
    "own videos": (predict, encode, search, fit, collect),
    "training": (demo, train, config),
    "evaluation": (evaluate, compare, frontier, diagnose),
    "data": (data, cache),
    "models": (export, compact, push, sample),
    "this machine": (doctor,),
}
MORE = (
    "`mote VERB --help` has all options, more examples and what is written.\n"
    "New here? `mote demo` trains, evaluates and writes a page in a few minutes.\n"
    'Completion in bash and zsh: eval "$(register-python-argcomplete mote)"'
)


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Run one verb and exit: 0 done, 1 done but some files were bad, 2 the user's mistake."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="surrogateescape")  # names of files keep their bytes, as in tables
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # before torch: of a process that died we say one line
    parser = _parser()
    complete(parser)
    arguments = _with_rest(*parser.parse_known_args(argv))
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


def _parser() -> Parser:
    parser = Parser(
        prog="mote", description="Image-text models for video: train, evaluate, predict.", epilog=MORE.strip()
    )
    parser.add_argument("--version", action="version", version=f"mote {__version__}")
    parser.add_argument("--traceback", action="store_true", help="show the full traceback of an error")
    parser.set_defaults(verb=_verbs, parser=parser)
    verbs = parser.add_subparsers(metavar="VERB")
    groups: dict[str, list[str]] = {}
    for group, commands in GROUPS.items():
        earlier = set(parser.verbs)
        for command in commands:
            command.add(verbs)
        groups[group] = [name for name in parser.verbs if name not in earlier]
    parser.groups = groups
    return parser


def _verbs(arguments: argparse.Namespace) -> int:
    """`mote` alone: the verbs in their groups."""
    arguments.parser.print_help()
    return 0


def _with_rest(arguments: argparse.Namespace, rest: list[str]) -> argparse.Namespace:
    """The arguments with what argparse has not collected: settings that stand behind an option."""
    parser: Parser = arguments.parser
    if rest and not parser.takes_settings:
        settings = "; it takes no settings" if "=" in rest[0] else ""
        parser.error(f"{' '.join(rest)}: more than {parser.prog} takes{settings}")
    if rest:
        arguments.config += rest
    return arguments

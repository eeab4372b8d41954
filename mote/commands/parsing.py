"""The parsers of the command line: help with examples, and mistakes that name what was probably meant."""

import argparse
import re
import shutil
import sys
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from mote.commands.meant import choice_error, option_error, verb_error

NUMBER = re.compile(r"-[\d.][\d.eE+-]*")


class Formatter(argparse.HelpFormatter):
    """Wraps every line of a description by itself; lines that are set in, such as examples, stay as they are."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        lines = (
            [line] if line.startswith(" ") else textwrap.wrap(line, width, subsequent_indent="  ") or [""]
            for line in text.splitlines()
        )
        return "\n".join(indent + line for wrapped in lines for line in wrapped)


class Parser(argparse.ArgumentParser):
    """A parser of the house: a mistake is one line, exit code 2.

    Attributes:
        summary: what the verb does, in a line.
        writes: what it leaves behind.
        examples: commands as a user types them, the first of which stands in the list of all verbs.
        groups: title -> names of verbs, for a parser whose verbs are listed in groups.
    """

    summary: str = ""
    writes: str = ""
    examples: Sequence[str] = ()
    groups: Mapping[str, Sequence[str]] = {}

    @property
    def verbs(self) -> dict[str, "Parser"]:
        """The verbs below this parser, by name."""
        actions = [action for action in self._actions if isinstance(action, argparse._SubParsersAction)]
        return dict(actions[0].choices) if actions else {}  # type: ignore[arg-type]

    @property
    def options(self) -> list[str]:
        """All options, such as `--out`."""
        return list(self._option_string_actions)

    @property
    def takes_settings(self) -> bool:
        """Whether `a.b=c` is understood among the arguments."""
        return any(action.dest == "config" and not action.option_strings for action in self._actions)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As argparse does it, after a look at the options, so that an unknown one is told of first."""
        given = list(sys.argv[1:] if args is None else args)
        for place, word in enumerate(given):
            if word == "--" or (self.verbs and not word.startswith("-")):
                break
            option, equals, value = word.partition("=")
            if not re.match(r"--?[A-Za-z]", word) or " " in option or self._knows(option):
                continue
            following = given[place + 1] if place + 1 < len(given) else ""
            if not equals and (not following.startswith("-") or NUMBER.fullmatch(following)):
                value = following
            self.error(option_error(self, option, value))
        return super().parse_known_args(given, namespace)

    def _knows(self, option: str) -> bool:
        """Whether it is an option, or the beginning of one (argparse says which, where there are several)."""
        if option.startswith("--"):
            return any(known.startswith(option) for known in self.options)
        return option[:2] in self.options

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is None or value in action.choices:
            return
        if isinstance(action, argparse._SubParsersAction):
            self.error(verb_error(self, str(value)))
        name = "/".join(action.option_strings) or str(action.metavar or action.dest)
        self.error(choice_error(name, value, list(action.choices)))

    def error(self, message: str) -> NoReturn:
        """Say it in one line, and where help is; where something is missing, with an example."""
        if message.startswith("the following arguments are required") and self.examples:
            message = f"{message}, as in: {self.examples[0]}"
        self.exit(2, f"mote: error: {message} (`{self.prog} --help` shows more)\n")

    def format_help(self) -> str:
        """Help; for a parser with groups, its verbs in their groups with an example each."""
        if not self.groups:
            return super().format_help()
        width = shutil.get_terminal_size().columns - 2
        lines = [self.format_usage(), self.description or "", ""]
        longest = max(len(name) for names in self.groups.values() for name in names)
        for title, names in self.groups.items():
            lines.append(f"{title}:")
            for name in names:
                verb, space = self.verbs[name], " " * (longest + 4)
                begin = f"  {name:<{longest}}  "
                lines += textwrap.wrap(verb.summary, max(width, 60), initial_indent=begin, subsequent_indent=space)
                lines += [f"{space}$ {example}" for example in verb.examples[:1]]
            lines.append("")
        return "\n".join([*lines, self.epilog or "", ""])


def epilog(writes: str, examples: Sequence[str]) -> str:
    """The end of a verb's help: what it writes, and its examples."""
    return "\n".join([f"writes: {writes}", "", "examples:", *(f"  {example}" for example in examples)])

"""What the command prints when it is given no experiment: how to start, options, named settings."""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from lamp_exp.conf_files import conf_folder
from lamp_exp.environment import end_with_the_reader
from lamp_exp.errors import InputError, did_you_mean
from lamp_exp.options import GROUPS, OPTIONS, Option, as_text

TABLE_WIDTH = 110  # characters that the table of options needs
START = """\
lamp_exp: personalise language models on the LaMP benchmark

  python -m lamp_exp -m experiment=first k=0,4   a first result in about two minutes, without data
  python -m lamp_exp experiments                 named experiments and sweeps
  python -m lamp_exp options                     all options with their defaults
  python -m lamp_exp.data --help                 download, check and prepare LaMP
  python -m lamp_exp.report --help               tables, tests and a page of finished runs

One experiment:  python -m lamp_exp task=lamp4 retriever=contriever k=4 data_dir=/data/LaMP
A sweep:         python -m lamp_exp -m task=lamp1,lamp4 k=0,1,4 data_dir=/data/LaMP"""


def show_start() -> None:
    """Prints what can be started and how."""
    print(START)


def show_options() -> None:
    """Prints each group with its components, and each option with its values and meaning."""
    rows = [
        (name, str(group.default or "null"), ", ".join(names_of(name)), group.help)
        for name, group in GROUPS.items()
    ]
    rows += [
        (option.name, as_text(option.default), _values(option), option.help)
        for option in OPTIONS.values()
    ]
    _print_options(rows)
    print("Options of a component (retriever.k1, model.name): python -m lamp_exp --cfg job")


def show_experiments() -> None:
    """Prints the named experiments and sweeps, with the first line of each file's comment."""
    for group, command in (("experiment", "experiment=NAME"), ("sweep", "-m +sweep=NAME")):
        rows = [(name, description_of(group, name)) for name in names_of(group)]
        _print_table((f"python -m lamp_exp {command}", ""), rows)
        print()


COMMANDS: Mapping[str, Callable[[], None]] = {
    "options": show_options,
    "experiments": show_experiments,
    "help": show_start,
}


def show_usage(arguments: list[str]) -> bool:
    """Prints what `arguments` ask for; False if they are an experiment.

    Raises InputError for what looks like a command or an option, and is none.
    """
    if arguments and (len(arguments) > 1 or arguments[0] not in COMMANDS):
        _refuse_bare_word(arguments[0])
        _refuse_dashes(arguments)
        return False
    end_with_the_reader()
    (COMMANDS[arguments[0]] if arguments else show_start)()
    return True


def _refuse_bare_word(word: str) -> None:
    """Raises InputError for a first word that is no option, such as a misspelt command."""
    if word in COMMANDS:
        raise InputError(f"{word} takes no further words")
    if "=" not in word and not word.startswith(("-", "~")):
        raise InputError(
            f"{word} is no command{did_you_mean(word, COMMANDS)}; commands are "
            f"{', '.join(COMMANDS)}, and options are given as name=value"
        )


def _refuse_dashes(words: Sequence[str]) -> None:
    """Raises InputError for an option that is written as a flag (`--k 4`)."""
    roots = {name.partition(".")[0] for name in (*GROUPS, *OPTIONS)}
    for word, following in zip(words, [*words[1:], "VALUE"], strict=True):
        name, _, value = word.lstrip("-").partition("=")
        if word.startswith("-") and name.partition(".")[0] in roots:
            raise InputError(f"{word}: options have no dashes: {name}={value or following}")


def names_of(group: str) -> list[str]:
    """The names of a group's files in `conf/`."""
    return sorted(path.stem for path in Path(conf_folder(), group).glob("*.yaml"))


def description_of(group: str, name: str) -> str:
    """The first comment line of a file in `conf/` that is not for Hydra."""
    lines = Path(conf_folder(), group, f"{name}.yaml").read_text("utf-8").splitlines()
    comments = (line.lstrip("# ") for line in lines if line.startswith("#"))
    return next((line for line in comments if not line.startswith("@package")), "")


def _values(option: Option) -> str:
    if option.choices:
        return ", ".join(map(as_text, option.choices))
    return "number" if option.kind in (int, float) else "true, false" if option.kind is bool else ""


def _print_options(rows: Sequence[tuple[str, ...]]) -> None:
    """A table; on a narrow screen a list, so that no name is broken."""
    width = shutil.get_terminal_size().columns
    if not sys.stdout.isatty() or width >= TABLE_WIDTH:
        _print_table(("option", "default", "values", "meaning"), rows)
        return
    for name, default, values, meaning in rows:
        print(f"{name}={default}")
        for text in filter(None, (meaning, values and f"values: {values}")):
            print(textwrap.fill(
                text, width, initial_indent="    ", subsequent_indent="    ",
                break_long_words=False, break_on_hyphens=False,
            ))  # fmt: skip


def _print_table(columns: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False)
    for number, column in enumerate(columns):
        last = number == len(columns) - 1
        most = None if last else 40
        table.add_column(column, no_wrap=number == 0, overflow="fold", max_width=most)
    for row in rows:
        table.add_row(*row)
    Console(highlight=False, markup=False, width=None if sys.stdout.isatty() else 120).print(table)

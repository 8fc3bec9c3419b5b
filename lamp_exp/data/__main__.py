"""`python -m lamp_exp.data VERB`: download, check, prepare, complete and make LaMP's files."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence
from types import ModuleType

from lamp_exp.environment import run_command
from lamp_exp.errors import InputError
from lamp_exp.tasks import all_tasks

VERBS = {  # the module of each verb, and what it does
    "download": ("download", "fetch the official files, resuming what was cut off"),
    "check": ("check", "tell what is wrong or odd in the files"),
    "prepare": ("prepare", "make the stores that all runs read (else made at first use)"),
    "avocado": ("avocado", "complete LaMP-6 from the Avocado corpus"),
    "sample": ("write_sample", "write the made-up sample as official files, at any size"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; a mistake of the user's ends in one line and exit code 2."""
    parser = argparse.ArgumentParser(prog="python -m lamp_exp.data", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    for verb, (_, words) in VERBS.items():
        made = verbs.add_parser(verb, help=words, description=words)
        _module(verb).add_arguments(made)
    options = parser.parse_args(arguments)
    try:
        return int(_module(options.verb).run(options, all_tasks()))
    except InputError as error:
        print(f"lamp_exp.data {options.verb}: {error}", file=sys.stderr)
        return 2


def _module(verb: str) -> ModuleType:
    return importlib.import_module(f"lamp_exp.data.{VERBS[verb][0]}")


if __name__ == "__main__":
    run_command(main)

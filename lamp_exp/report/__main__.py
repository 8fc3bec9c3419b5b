"""`python -m lamp_exp.report VERB`: what finished runs say, from their records alone."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence
from typing import Protocol, cast

from lamp_exp.environment import end_with_the_reader, prepare_process
from lamp_exp.errors import InputError

VERBS = {
    "table2": "the paper's table 2: fine-tuned, user split",
    "table3": "the paper's table 3: fine-tuned, time split",
    "table4": "the paper's table 4: zero-shot",
    "ablation": "every task, retriever and augmentation over k",
    "table": "a table of your own rows and columns",
    "published": "the published numbers themselves",
    "tests": "every pair of runs on the same questions, tested",
    "compare": "two runs: metrics, tests, and the examples that changed most",
    "personal": "what the profile gains, for whom, and how much is left to gain",
    "agreement": "how far retrievers pick the same items",
    "coldstart": "metric and gain by size, similarity and age of the profile",
    "cost": "tokens, seconds, memory and price, and quality against them",
    "html": "one page of everything, in one file",
    "leaderboard": "the official files of runs, checked and zipped",
    "import": "predictions made elsewhere, as a run",
    "card": "all that is needed to repeat a run",
    "rerun": "repeat a run, and tell whether the numbers agree",
}


class Verb(Protocol):
    """What each module of `verbs` has."""

    def add_options(self, parser: argparse.ArgumentParser) -> None:
        """Its own options."""
        ...

    def run(self, options: argparse.Namespace) -> int:
        """Does it; the exit code."""
        ...


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; a mistake of the user's ends in one line and exit code 2."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    name = _parser().parse_args(words[:1]).verb
    module = f"lamp_exp.report.verbs.{_module(name)}"
    verb = cast(Verb, importlib.import_module(module))  # only one: statistics take long to load
    parser = argparse.ArgumentParser(
        prog=f"python -m lamp_exp.report {name}", description=_sentence(VERBS[name])
    )
    verb.add_options(parser)
    options = parser.parse_args(words[1:], argparse.Namespace(verb=name))
    try:
        return verb.run(options)
    except (InputError, OSError) as error:
        print(f"lamp_exp.report {name}: {error}", file=sys.stderr)
        return 2


def _module(verb: str) -> str:
    if verb in ("table2", "table3", "table4", "ablation"):
        return "table"
    return "imports" if verb == "import" else verb


def _sentence(words: str) -> str:
    return f"{words[0].upper()}{words[1:]}."


def _parser() -> argparse.ArgumentParser:
    verbs = "\n".join(f"  {name:12} {words}" for name, words in VERBS.items())
    parser = argparse.ArgumentParser(
        prog="python -m lamp_exp.report",
        description=f"{(__doc__ or '').split(': ', 1)[1]}\n\nverbs:\n{verbs}",
        epilog="python -m lamp_exp.report VERB --help tells a verb's options",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage="%(prog)s VERB [options]",
    )
    parser.add_argument("verb", choices=VERBS, metavar="VERB", help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    prepare_process()
    end_with_the_reader()
    sys.exit(main())

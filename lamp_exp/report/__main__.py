"""`python -m lamp_exp.report VERB`: what finished runs say, from their records alone."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence
from typing import Any

from lamp_exp.environment import run_command
from lamp_exp.errors import InputError, did_you_mean

VERBS = {  # the module, and a description
    "table2": ("metric_tables", "the paper's table 2: fine-tuned, user split"),
    "table3": ("metric_tables", "the paper's table 3: fine-tuned, time split"),
    "table4": ("metric_tables", "the paper's table 4: zero-shot"),
    "ablation": ("metric_tables", "every task, retriever and augmentation over k"),
    "table": ("metric_tables", "a table of your own rows and columns"),
    "published": ("published", "the published numbers themselves"),
    "tests": ("pairwise_tests", "every pair of runs on the same questions, tested"),
    "compare": ("compare", "two runs: metrics, tests, and the examples that changed most"),
    "methods": ("methods", "all methods on all tasks: gains, users, costs, and the bounds"),
    "personal": ("personal", "what the profile gains, for whom, and how much is left to gain"),
    "factors": ("factors", "retrieval, summary and adapter: what each brings, and all together"),
    "router": ("router", "what routers chose, and what choosing was worth"),
    "agreement": ("agreement", "how far retrievers pick the same items"),
    "retrieval": ("retrieval", "what rankings are worth to a reader, by its feedback"),
    "coldstart": ("coldstart", "metric and gain by size, similarity and age of the profile"),
    "cost": ("cost", "tokens, seconds, memory and price, and quality against them"),
    "html": ("page", "one page of everything, in one file"),
    "leaderboard": ("leaderboard", "the official files of runs, checked and zipped"),
    "import": ("imports", "predictions made elsewhere, as a run"),
    "card": ("card", "all that is needed to repeat a run"),
    "rerun": ("rerun", "repeat a run, and tell whether the numbers agree"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; a mistake of the user ends in one line and exit code 2."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words and not words[0].startswith("-") and words[0] not in VERBS:
        hint = did_you_mean(words[0], VERBS) or "; see --help"
        print(f"lamp_exp.report: {words[0]} is no verb{hint}", file=sys.stderr)
        return 2
    name = _parser().parse_args(words[:1]).verb
    module, description = VERBS[name]
    # Only the one verb is imported: statistics and plots take long to load. Its module has
    # `add_options(parser)`, and `tables(arguments)` or `run(arguments)`, which is the exit code.
    verb: Any = importlib.import_module(f"lamp_exp.report.{module}")
    cli = importlib.import_module("lamp_exp.report.cli_arguments")
    parser = argparse.ArgumentParser(
        prog=f"python -m lamp_exp.report {name}",
        description=f"{description[0].upper()}{description[1:]}.",
    )
    verb.add_options(parser)
    if hasattr(verb, "tables"):
        cli.add_format(parser)
    parsed = parser.parse_args(words[1:], argparse.Namespace(verb=name))
    try:
        if hasattr(verb, "tables"):
            cli.check_format(parsed)  # before any work
            return int(cli.write(verb.tables(parsed), parsed))
        return int(verb.run(parsed))
    except (InputError, OSError) as error:
        print(f"lamp_exp.report {name}: {error}", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    verbs = "\n".join(f"  {name:12} {words}" for name, (_, words) in VERBS.items())
    parser = argparse.ArgumentParser(
        prog="python -m lamp_exp.report",
        description=f"What finished runs say, from their records alone.\n\nverbs:\n{verbs}",
        epilog="python -m lamp_exp.report VERB --help shows a verb's options",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage="%(prog)s VERB [options]",
    )
    parser.add_argument("verb", choices=VERBS, metavar="VERB", help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    run_command(main)

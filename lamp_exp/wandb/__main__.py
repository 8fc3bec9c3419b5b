"""`python -m lamp_exp.wandb VERB`: send runs that were kept offline, make a workspace."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence

from lamp_exp.environment import prepare_process

VERBS = {
    "sync": "send the runs that are kept on disk for Weights & Biases",
    "workspace": "make a workspace with panels that compare runs",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the verb's module; returns the exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    parser = argparse.ArgumentParser(
        prog="python -m lamp_exp.wandb",
        description="\n".join(f"{name:10} {what}" for name, what in VERBS.items()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("verb", choices=VERBS, metavar="VERB", help="VERB --help lists its options")
    verb = parser.parse_args(words[:1]).verb
    return int(importlib.import_module(f"lamp_exp.wandb.{verb}").main(words[1:]))


if __name__ == "__main__":
    prepare_process()
    sys.exit(main())

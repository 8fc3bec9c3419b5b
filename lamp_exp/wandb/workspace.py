"""`python -m lamp_exp.wandb workspace --entity E --project P`: panels that compare runs, from code.

For each task its main metric by retriever and over k; then how the runs differ, and their curves.
"""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lamp_exp.contracts import Task
from lamp_exp.errors import InputError
from lamp_exp.storage.atomic import write_whole
from lamp_exp.tasks import all_tasks

if TYPE_CHECKING:
    from wandb_workspaces.workspaces import Section, Workspace

BY_RETRIEVER = "choices.retriever"  # of the config


def workspace(
    entity: str, project: str, tags: Sequence[str] = (), group: str | None = None
) -> Workspace:
    """The view of runs that have all `tags` and are of the sweep `group`; built without network.

    Raises InputError without the extra `wandb`.
    """
    ws, expr = _library().workspaces, _library().expr
    filters = [expr.Tags().isin([tag]) for tag in tags]
    filters += [expr.Metric("Group") == group] if group else []
    made: Workspace = ws.Workspace(
        entity=entity,
        project=project,
        name="LaMP" + "".join(f" · {word}" for word in [*tags, *([group] if group else [])]),
        sections=[*_tasks(all_tasks()), *_across_tasks()],
        runset_settings=ws.RunsetSettings(filters=expr.And(*filters) if filters else ""),
    )
    return made


def _tasks(tasks: Mapping[str, Task]) -> list[Section]:
    """A section for each task; what a run says under `main/<task>` is its main metric."""
    wr, ws = _library().reports.v2, _library().workspaces
    sections = []
    for name, task in tasks.items():
        metric, better = task.main_metric.name, task.main_metric.direction
        words = f"{metric} ({'lower' if better == 'min' else 'higher'} is better)"
        bars = wr.BarPlot(
            title=f"{name} by retriever: {words}",
            metrics=[f"main/{name}"],
            groupby=wr.Config(BY_RETRIEVER),
            groupby_aggfunc="mean",
        )
        curve = wr.ScatterPlot(
            title=f"{name} over k: {words}",
            x=wr.SummaryMetric("k"),
            y=wr.SummaryMetric(f"main/{name}"),
            running_ymean=True,
        )
        sections.append(ws.Section(name=name, panels=[bars, curve], is_open=True))
    return sections


def _across_tasks() -> list[Section]:
    """In what the settings and results of runs differ, and how they learned."""
    wr, ws = _library().reports.v2, _library().workspaces
    loss = wr.LinePlot(title="training loss", x="trainer/global_step", y=["train_loss"])
    return [
        ws.Section(name="differences", panels=[wr.RunComparer(diff_only="split")]),
        ws.Section(name="training", panels=[loss]),
    ]


def _library() -> Any:
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    try:
        with warnings.catch_warnings():  # the library's, of its own way to use pydantic
            warnings.simplefilter("ignore", DeprecationWarning)
            import wandb_workspaces
            import wandb_workspaces.expr
            import wandb_workspaces.reports.v2
            import wandb_workspaces.workspaces
    except ModuleNotFoundError as error:
        raise InputError(f"workspaces need {error.name}: pip install 'lamp-exp[wandb]'") from error
    return wandb_workspaces


def as_json(made: Workspace) -> str:
    """What would be sent; by a private way of the library, which is therefore pinned."""
    text: str = made._to_model().model_dump_json(by_alias=True, exclude_none=True, indent=1)
    return text


def save(made: Workspace) -> str:
    """Sends it with WANDB_API_KEY; its address. Raises InputError if that cannot be done."""
    from lamp_exp.wandb.session import failures, one_line

    if not os.environ.get("WANDB_API_KEY"):
        raise InputError("set the environment variable WANDB_API_KEY, or write a file with --json")
    try:
        saved: Any = made
        return str(saved.save().url)
    except failures() as error:
        raise InputError(f"the workspace could not be saved ({one_line(error)})") from error


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; a mistake ends in one line and exit code 2."""
    parser = argparse.ArgumentParser(prog="python -m lamp_exp.wandb workspace", description=__doc__)
    parser.add_argument("--entity", required=True, help="the user or team")
    parser.add_argument("--project", required=True)
    parser.add_argument("--tag", action="append", default=[], help="only runs with it (repeatable)")
    parser.add_argument("--group", help="only runs of this sweep")
    parser.add_argument("--json", type=Path, help="write it here; nothing is sent")
    options = parser.parse_args(arguments)
    try:
        made = workspace(options.entity, options.project, options.tag, options.group)
        if options.json:
            write_whole(options.json, [as_json(made), "\n"])
        print(options.json or save(made))
    except (InputError, OSError) as error:
        print(f"lamp_exp.wandb workspace: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())

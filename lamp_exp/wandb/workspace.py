"""`python -m lamp_exp.wandb workspace --entity E --project P`: a workspace that compares runs.

It shows each task's main metric by retriever and over k, how the runs' settings differ, and their
training curves.
"""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lamp_exp.contracts import Task
from lamp_exp.errors import InputError
from lamp_exp.tasks import all_tasks
from lamp_exp.wandb.session import WandbFailure, failures_of_wandb, require_key

if TYPE_CHECKING:
    from wandb_workspaces.workspaces import Section, Workspace

RETRIEVER = "choices.retriever"  # of the run's config


def workspace(
    entity: str, project: str, tags: Sequence[str] = (), group: str | None = None
) -> Workspace:
    """A workspace of the runs that have all `tags` and belong to the sweep `group`; not yet sent.

    Raises InputError without the extra `wandb`.
    """
    ws, expr = _library().workspaces, _library().expr
    filters = [expr.Tags().isin([tag]) for tag in tags]
    filters += [expr.Metric("Group") == group] if group else []
    made: Workspace = ws.Workspace(
        entity=entity,
        project=project,
        name="LaMP" + "".join(f" · {word}" for word in [*tags, *([group] if group else [])]),
        sections=[*_task_sections(all_tasks()), *_common_sections()],
        runset_settings=ws.RunsetSettings(filters=expr.And(*filters) if filters else ""),
    )
    return made


def _task_sections(tasks: Mapping[str, Task]) -> list[Section]:
    """A section for each task, with its main metric (`main/<task>` in a run's summary)."""
    wr, ws = _library().reports.v2, _library().workspaces
    sections = []
    for name, task in tasks.items():
        better = "lower" if task.main_metric.direction == "min" else "higher"
        label = f"{task.main_metric.name} ({better} is better)"
        bars = wr.BarPlot(
            title=f"{name} by retriever: {label}",
            metrics=[f"main/{name}"],
            groupby=wr.Config(RETRIEVER),
            groupby_aggfunc="mean",
        )
        curve = wr.ScatterPlot(
            title=f"{name} over k: {label}",
            x=wr.SummaryMetric("k"),
            y=wr.SummaryMetric(f"main/{name}"),
            running_ymean=True,
        )
        sections.append(ws.Section(name=name, panels=[bars, curve], is_open=True))
    return sections


def _common_sections() -> list[Section]:
    """The differences between runs, and their training curves."""
    wr, ws = _library().reports.v2, _library().workspaces
    loss = wr.LinePlot(title="training loss", x="trainer/global_step", y=["train_loss"])
    return [
        ws.Section(name="differences", panels=[wr.RunComparer(diff_only="split")]),
        ws.Section(name="training", panels=[loss]),
    ]


def _library() -> Any:
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    try:
        with warnings.catch_warnings():  # its use of pydantic is deprecated
            warnings.simplefilter("ignore", DeprecationWarning)
            import wandb_workspaces
            import wandb_workspaces.expr
            import wandb_workspaces.reports.v2
            import wandb_workspaces.workspaces
    except ModuleNotFoundError as error:
        raise InputError(f"workspaces need {error.name}: pip install 'lamp-exp[wandb]'") from error
    return wandb_workspaces


def save(made: Workspace) -> str:
    """Sends the workspace and returns its address. Raises InputError if that fails."""
    require_key()
    try:
        with failures_of_wandb():
            saved: Any = made
            return str(saved.save().url)
    except WandbFailure as error:
        raise InputError(f"the workspace could not be saved ({error})") from error


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; a mistake ends in one line and exit code 2."""
    parser = argparse.ArgumentParser(prog="python -m lamp_exp.wandb workspace", description=__doc__)
    parser.add_argument("--entity", required=True, help="the user or team")
    parser.add_argument("--project", required=True)
    parser.add_argument("--tag", action="append", default=[], help="only runs with it (repeatable)")
    parser.add_argument("--group", help="only runs of this sweep")
    options = parser.parse_args(arguments)
    try:
        print(save(workspace(options.entity, options.project, options.tag, options.group)))
    except InputError as error:
        print(f"lamp_exp.wandb workspace: {error}", file=sys.stderr)
        return 2
    return 0

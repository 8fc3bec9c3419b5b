"""One clear line for each error that Hydra and OmegaConf explain in many."""

from __future__ import annotations

import difflib
import re

from lamp_exp.options import GROUPS, OPTIONS

PLUGINS = {"joblib": "joblib", "submitit": "slurm", "ray": "ray"}  # launchers: our extra
KNOWN = sorted({*GROUPS, *OPTIONS, *(name.partition(".")[0] for name in OPTIONS)})


def explain(error: Exception) -> str:
    """One line for what Hydra says in many, with the option that was probably meant."""
    text = str(error)
    lines = [line.strip() for line in text.splitlines() if line.strip()] or [type(error).__name__]
    if needed := _missing_plugin(lines[0]):
        return needed
    if found := re.search(r"Could not find '(.+?)'", lines[0]):
        group, _, option = found[1].rpartition("/")
        return f"{group}={option} does not exist: choose one of {', '.join(_listed(lines))}"
    if found := re.search(
        r"Could not (?:override|delete from config|load) '?([\w./@-]+)", lines[0]
    ):
        if found[1] == "sweep":
            return "named sweeps are added with a plus: python -m lamp_exp -m +sweep=table2"
        near = difflib.get_close_matches(found[1], KNOWN, n=1)
        return f"{found[1]} is no option" + (
            f": did you mean {near[0]}?" if near else "; see --help"
        )
    if lines[0].startswith("Error merging override"):
        override = lines[0].removeprefix("Error merging override ")
        return f"{override}: {str(error.__cause__).splitlines()[0]}"
    if found := re.search(r"Ambiguous value for argument '(.+?)'", text):
        return f"{found[1]} is several values: add -m to run each of them"
    if "Config group override must be a string" in text:
        return "a group cannot be null: for the run without a profile, use retriever=none"
    if lines[-1].startswith("See https"):  # the override grammar
        return (
            f"{lines[0]}: a value with = , : or brackets needs quotes inside quotes: 'key=\"a=b\"'"
        )
    return lines[0]


def _missing_plugin(line: str) -> str | None:
    """What to install for a launcher that a plugin of Hydra's would bring."""
    pattern = r"(?:In 'hydra/launcher/(\w+)': )?Could not (?:find|load) 'hydra/launcher/(\w+)'"
    found = re.search(pattern, line)
    plugin = found[2].split("_")[0] if found else ""
    if not found or plugin not in PLUGINS:
        return None
    needs = f"hydra-{plugin}-launcher: pip install 'lamp-exp[{PLUGINS[plugin]}]'"
    return f"hydra/launcher={found[1] or found[2]} needs {needs}"


def _listed(lines: list[str]) -> list[str]:
    """The options that follow Hydra's line `Available options in 'group':`."""
    start = next((n for n, line in enumerate(lines) if line.startswith("Available options")), 0)
    names = lines[start + 1 :]
    end = next((n for n, line in enumerate(names) if line.startswith("Config search")), len(names))
    return names[:end]

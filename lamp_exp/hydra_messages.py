"""Turns long errors of Hydra, OmegaConf and YAML into one clear line each."""

from __future__ import annotations

import difflib
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import yaml
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from lamp_exp.conf_files import conf_folder
from lamp_exp.errors import InputError, did_you_mean
from lamp_exp.options import GROUPS, KINDS, OPTIONS

PLUGINS = {  # of Hydra: our extra
    "joblib-launcher": "joblib", "submitit-launcher": "slurm", "ray-launcher": "ray",
    "optuna-sweeper": "optuna",
}  # fmt: skip
CANDIDATES = "router.candidates"
TYPES = {"Integer": KINDS[int], "Float": KINDS[float], "bool": KINDS[bool]}  # of OmegaConf
OPTIONS_LISTED = ": python -m lamp_exp options lists all"
HOME = "this shell does not replace ~ there: write $HOME instead"
QUOTES = "a value with = , : or brackets needs quotes inside quotes: 'key=\"a=b\"'"


@contextmanager
def explained() -> Iterator[None]:
    """Turns errors of Hydra, OmegaConf and YAML inside the block into InputErrors."""
    try:
        yield
    except InputError:
        raise
    except (HydraException, OmegaConfBaseException, yaml.YAMLError) as error:
        raise InputError(explain(error)) from error
    except ValueError as error:  # Hydra has no type of its own for these
        if not any(words in str(error) for words in ("Config group override", "--multirun, --cfg")):
            raise
        raise InputError(explain(error)) from error


def explain(error: Exception) -> str:
    """The first line of an error that says something, with the option that was probably meant."""
    if isinstance(error, yaml.YAMLError):
        return f"broken YAML: {' '.join(str(error).split())}"
    text = str(error)
    lines = [line.strip() for line in text.splitlines() if line.strip()] or [type(error).__name__]
    first = lines[0]
    if "--hydra-help" in sys.argv[1:]:
        return "--hydra-help takes no options: leave out all others"
    if "Only one of --run, --multirun, --cfg" in first:
        return "-m and --cfg exclude each other: leave out -m to see a job's configuration"
    if needed := _missing_plugin(first):
        return needed
    if found := re.search(r"Could not find '(.+?)'", first):
        return _unknown_choice(found[1], lines)
    if found := re.search(r"Multiple values for ([\w/]+)", first):
        return f"{found[1]} has a default: set it without a plus, {found[1]}=…"
    if found := re.search(r"In '(.+?)': ConfigKeyError", first):
        key = re.search(r"Key '(\w+)' not in", text)
        return f"{found[1]}.yaml: {_no_option(key[1] if key else lines[-1])}"
    pattern = r"Could not (?:override|delete from config\.?|load) '?([\w./@-]+)"
    if found := re.search(pattern, first):
        if found[1] == "sweep":
            return "named sweeps are added with a plus: python -m lamp_exp -m +sweep=table2"
        if inner := re.search(rf"full_key: {re.escape(found[1])}\.(\w+)", str(error.__cause__)):
            return f"{found[1]} has no {inner[1]}: add it with a plus, +{found[1]}.{inner[1]}=…"
        return _no_option(found[1])
    if first.startswith("Error merging override"):
        override = first.removeprefix("Error merging override ")
        reason = str(error.__cause__).splitlines()[0]
        if found := re.search(r"could not be converted to (\w+)|is not a valid (\w+)", reason):
            kind = found[1] or found[2]
            return f"{override} must be {TYPES.get(kind, kind)}"
        if "DictConfig with ListConfig" in reason:
            return f"{override} must map names to values: {override.partition('=')[0]}.NAME=VALUE"
        return f"{override}: {reason}"
    if found := re.search(r"Ambiguous value for argument '(.+?)'", text):
        return f"{found[1]} is several values: add -m (in Python: lamp_exp.sweep) to run each"
    if "Config group override must be a string" in text:
        return "a group cannot be null: for the run without a profile, use retriever=none"
    if words := _without_value(first):
        return f"{words}: an option is name=value, without spaces around ="
    if "=~" in first:
        return f"{first.partition(': ')[2] or first}: {HOME}"
    return f"{first}: {QUOTES}" if lines[-1].startswith("See https") else first


def _without_value(line: str) -> str:
    """The words of the command that are neither options nor flags, if `line` complains of them."""
    if found := re.search(r"Error parsing override '([^'=]*)'", line):
        return found[1]
    if not line.startswith("LexerNoViableAltException"):
        return ""
    return " ".join(_bare_words())


def _bare_words() -> list[str]:
    """The words of the command that are neither options nor flags."""
    return [word for word in sys.argv[1:] if "=" not in word and word[:1] not in ("-", "~")]


def _no_option(name: str) -> str:
    """That there is no such option, and which one may be meant."""
    group, _, inner = name.partition(".")
    if name.startswith(f"{CANDIDATES}."):
        return _no_candidate(name.removeprefix(f"{CANDIDATES}.").partition(".")[0])
    if inner and group in GROUPS:
        owners = _listed([f"{group}={owner}" for owner in _owners(group, inner.split(".")[0])])
        others = f", but of {owners}" if owners else _near_option(group, inner)
        hint = _in_a_sweep(group, name)
        return f"{name} is no option of the {group} that was chosen{others}{hint}"
    names = [*GROUPS, *OPTIONS, *(name.partition(".")[0] for name in OPTIONS)]
    by_last_part = {option.rpartition(".")[2]: option for option in names}
    near = difflib.get_close_matches(name, names, n=1)
    meant = by_last_part.get(name) or (near[0] if near else None)
    return f"{name} is no option" + (f": did you mean {meant}?" if meant else OPTIONS_LISTED)


def _no_candidate(name: str) -> str:
    """That a router has no candidate of that name, and which one may be meant."""
    known = sorted({one for names in _options_of("router/candidates").values() for one in names})
    hint = did_you_mean(name, known) or f": it has {_listed(known)}"
    return f"{CANDIDATES} has no {name}{hint} (+{CANDIDATES}.{name}={{…}} adds one)"


def _in_a_sweep(group: str, name: str) -> str:
    """How to give an option to those of a sweep's components that have it."""
    if not any(re.match(rf"{group}=.*,", word) for word in sys.argv[1:]):
        return ""
    return f": in a sweep, '{name}=choice(VALUE)' reaches the jobs that have it"


def _listed(names: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return " and ".join(filter(None, (", ".join(names[:-1]), *names[-1:])))


def _owners(group: str, option: str) -> list[str]:
    """The components of a group that have an option."""
    return [name for name, options in _options_of(group).items() if option in options]


def _near_option(group: str, name: str) -> str:
    """The option of a group's components that was probably meant, or where they are listed."""
    options = _options_of(group).values()
    names = sorted({one for names in options for one in names})  # of equally near ones, always one
    near = difflib.get_close_matches(name, names, 1, 0.5)
    if not near:
        return f": see conf/{group}/"
    owners = _listed(_owners(group, near[0]))
    return f": did you mean {group}.{near[0]} (of {owners})?"


def _options_of(group: str) -> dict[str, list[str]]:
    """The options of each component of a group, by the component's name."""
    files = sorted(Path(conf_folder(), group).glob("*.yaml"))
    return {path.stem: list(yaml.safe_load(path.read_text("utf-8"))) for path in files}


def _unknown_choice(path: str, lines: list[str]) -> str:
    group, _, choice = path.rpartition("/")
    start = next((n for n, line in enumerate(lines) if line.startswith("Available options")), 0)
    names = lines[start + 1 :]
    end = next((n for n, line in enumerate(names) if line.startswith("Config search")), len(names))
    near = difflib.get_close_matches(choice, names[:end], n=1)
    hint = f" (did you mean {near[0]}?)" if near else ""
    return f"{group}={choice} does not exist: choose one of {', '.join(names[:end])}{hint}"


def _missing_plugin(line: str) -> str | None:
    """What to install for a launcher or sweeper that one of Hydra's plugins would bring."""
    kind = r"hydra/(launcher|sweeper)/(\w+)"
    found = re.search(rf"(?:In '{kind}': )?Could not (?:find|load) '{kind}'", line)
    if not found:
        return None
    chosen, kind, missing = found[2] or found[4], found[3], found[4]
    plugin = f"{missing.split('_')[0]}-{kind}"
    if plugin not in PLUGINS:
        return None
    return f"hydra/{kind}={chosen} needs hydra-{plugin}: pip install 'lamp-exp[{PLUGINS[plugin]}]'"

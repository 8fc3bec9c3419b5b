"""The types of the root keys, and the one place where YAML becomes objects."""

from __future__ import annotations

import difflib
import inspect
import random
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from functools import partial
from pathlib import Path
from typing import Any, cast

from hydra.conf import HydraConf
from hydra.core.config_store import ConfigStore
from hydra.errors import InstantiationException
from hydra.types import RunMode
from hydra.utils import instantiate
from omegaconf import MISSING, DictConfig, OmegaConf

from lamp_exp.contracts import Retriever, Task
from lamp_exp.errors import InputError
from lamp_exp.experiment.stages import Mode, Plan
from lamp_exp.storage.rankings import RankingCache
from lamp_exp.storage.vectors import VectorCache
from lamp_exp.values import ModelSettings, PartView, ProfileOptions, TrainingOptions

EXTRAS = {"openai": "openai", "gguf": "gguf", "peft": "lora"}  # package: our extra that brings it
PLUGINS = {"joblib": "joblib", "submitit": "slurm", "ray": "ray"}  # Hydra's launchers, likewise
TUNE = "tune"  # as k: chosen on dev from k_values
LOWEST = {
    "k": 0, "skip": 0, "max_length": 1, "max_new_tokens": 1, "predict_batch_size": 1, "limit": 1,
    "rank_processes": 1, "seed": 0, "profile.max_items": 0, "training.batch_size": 1,
    "training.lora_rank": 1, "training.patience": 1, "training.warmup": 0, "trainer.max_epochs": 1,
}  # fmt: skip
CHOICES = {
    "fixes": ("none", "declared"),
    "selection": ("dev", "holdout"),
    "profile.keep": ("newest", "first"),
    "profile.control": ("none", "shuffled_user"),
    "profile.own_items": ("keep", "remove"),
}


class Split(Enum):
    """How the benchmark divides its data."""

    user = "user"
    time = "time"


class PartName(Enum):
    """The parts of a split."""

    train = "train"
    dev = "dev"
    test = "test"


@dataclass
class Experiment:
    """The root keys; the values are in conf/config.yaml, with what they mean."""

    task: Any = MISSING
    retriever: Any = MISSING
    augmentation: Any = MISSING
    model: Any = MISSING
    trainer: Any = MISSING
    logger: Any = MISSING
    experiment: Any = None
    split: Split = MISSING
    part: PartName = MISSING
    mode: Mode = MISSING
    k: Any = MISSING
    k_values: list[int] = MISSING
    skip: int = 0  # of records from before there was one
    max_length: int = MISSING
    max_new_tokens: int = MISSING
    predict_batch_size: int = MISSING
    seed: int | None = None
    data_dir: str | None = None
    output_dir: str = MISSING
    limit: int | None = None
    rerun: Any = False
    dry_run: bool = False
    fail_fast: bool = False
    document_dates: bool = False
    rank_processes: int | None = None
    fixes: str = MISSING
    selection: str = MISSING
    profile: ProfileOptions = field(default_factory=ProfileOptions)
    training: TrainingOptions = field(default_factory=TrainingOptions)


def register() -> None:
    """Makes the types known to Hydra, under the name that conf/config.yaml asks for."""
    ConfigStore.instance().store(name="schema", node=Experiment)


def conf_folder() -> str:
    """The conf folder, absolute: in the checkout beside the package, else inside the wheel."""
    package = Path(__file__).parent
    inside = package / "conf"
    return str(inside if inside.is_dir() else package.parent / "conf")


def check(cfg: DictConfig) -> None:
    """Raises InputError for numbers out of range."""
    for name, least in LOWEST.items():
        value = OmegaConf.select(cfg, name)
        if isinstance(value, int | float) and value < least:
            raise InputError(f"{name}={value} must be at least {least}")
    if not (cfg.k == TUNE or type(cfg.k) is int):
        raise InputError(f"k={cfg.k} must be a number of profile items, or {TUNE}")
    if not cfg.k_values or min(cfg.k_values) < 1 or len(set(cfg.k_values)) < len(cfg.k_values):
        raise InputError(f"k_values={list(cfg.k_values)} must be different numbers from 1 on")
    if cfg.rerun not in (True, False, "stale"):
        raise InputError(f"rerun={cfg.rerun} must be one of false, true, stale")
    if cfg.seed is not None and cfg.seed >= 2**32:
        raise InputError(f"seed={cfg.seed} must be below 2**32")
    for name, allowed in CHOICES.items():
        value = OmegaConf.select(cfg, name)
        if value not in allowed:
            raise InputError(f"{name}={value} must be one of {', '.join(allowed)}")
    if cfg.training.lr <= 0:
        raise InputError(f"training.lr={cfg.training.lr} must be above 0")


def check_launcher(hydra: HydraConf) -> None:
    """Raises InputError for a launcher that a single run would leave unused, without a word."""
    launcher = hydra.runtime.choices["hydra/launcher"]
    if hydra.mode is RunMode.RUN and launcher != "basic":
        raise InputError(f"hydra/launcher={launcher} is for sweeps: add -m, even for one run")


def make_plan(cfg: DictConfig, choices: dict[str, str], answers: Any) -> Plan:
    """The experiment as objects; only what its mode needs is built, so the rest costs nothing.

    `choices` are the names of the chosen group options; `answers` keeps what an API answered.
    """
    values = plain(cfg)
    check(cfg)
    mode: Mode = cfg.mode
    cache_dir = Path(cfg.output_dir).expanduser() / ".cache"
    with_prompts, with_model = mode is not Mode.rank, mode in (Mode.finetune, Mode.zeroshot)
    task: Task = build(cfg, "task")
    settings = _model_settings(cfg, answers, task.labels)
    return Plan(
        mode=mode,
        task=task,
        split=cfg.split.value,
        part=cfg.part.value,
        retriever=_retriever(cfg, cache_dir),
        k=cfg.k,
        skip=cfg.skip,
        augmentation=build(cfg, "augmentation") if with_prompts else None,
        model=build(cfg, "model", settings=settings) if with_prompts else None,
        trainer=recipe(cfg, "trainer") if with_model else None,
        logger=recipe(cfg, "logger") if with_model else None,
        max_length=cfg.max_length,
        data_dir=cfg.data_dir,
        cache_dir=cache_dir,
        rankings=RankingCache(cache_dir / "rankings"),
        limit=cfg.limit,
        selection=cfg.selection,
        document_dates=cfg.document_dates,
        rank_processes=cfg.rank_processes,
        shape=PartView(
            profile=cast(ProfileOptions, OmegaConf.to_object(cfg.profile)),
            fixes=cfg.fixes,
            seed=cfg.seed or 0,
        ),
        choices=choices,
        settings=values,
    )


def _model_settings(cfg: DictConfig, answers: Any, labels: tuple[str, ...]) -> ModelSettings:
    return ModelSettings(
        max_length=cfg.max_length,
        max_new_tokens=cfg.max_new_tokens,
        predict_batch_size=cfg.predict_batch_size,
        seed=cfg.seed,
        training=cast(TrainingOptions, OmegaConf.to_object(cfg.training)),
        answers=answers,
        labels=labels,
    )


def _retriever(cfg: DictConfig, cache_dir: Path) -> Retriever:
    """With a place for what is costly to compute."""
    retriever: Retriever = build(cfg, "retriever")
    retriever.use_vector_store(VectorCache(cache_dir / "vectors"))
    return retriever


def asked(cfg: DictConfig) -> tuple[int, str, list[int]]:
    """k, the part, and the values from which k is to be tuned: none if it is given."""
    check(cfg)
    tuned = cfg.k == TUNE
    return 0 if tuned else cfg.k, cfg.part.value, list(cfg.k_values) if tuned else []


def with_k(cfg: DictConfig, k: int, part: str) -> DictConfig:
    """The same experiment with that k, for that part."""
    other = cfg.copy()
    other.k, other.part = k, part
    return other


def plan_of(settings: Mapping[str, Any], choices: dict[str, str]) -> Plan:
    """A plan from a resolved configuration, such as a run's record holds."""
    cfg = OmegaConf.merge(OmegaConf.structured(Experiment), settings)
    return make_plan(cast(DictConfig, cfg), choices, answers={})


def plain(cfg: DictConfig) -> dict[str, Any]:
    """The resolved configuration as plain values, without what is not known yet."""
    unfilled = OmegaConf.missing_keys(cfg)
    if unfilled:
        names = ", ".join(sorted(unfilled))
        raise InputError(f"{names} must be given: it has no default (see the YAML's comment)")
    content = OmegaConf.to_container(cfg, resolve=True, enum_to_str=True)
    assert isinstance(content, dict)
    return {str(name): value for name, value in content.items()}


def build(cfg: DictConfig, group: str, **given: Any) -> Any:
    """The component that a group's YAML describes, with objects that only Python can give."""
    return recipe(cfg, group)(**given)


def recipe(cfg: DictConfig, group: str) -> partial[Any]:
    """What builds a component; options that it does not have are refused here."""
    try:
        made: partial[Any] = instantiate(cfg[group], _partial_=True, _convert_="all")
    except InstantiationException as error:
        raise _explained(error, group) from error
    parameters = inspect.signature(made.func).parameters
    for name in made.keywords:
        if name not in parameters and not _takes_any(parameters):
            near = difflib.get_close_matches(name, parameters, n=1)
            hint = f": did you mean {near[0]}?" if near else ""
            raise InputError(f"{group}.{name} is no option of {made.func.__qualname__}{hint}")
    return made


def _takes_any(parameters: Any) -> bool:
    return any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values())


def _explained(error: InstantiationException, group: str) -> InputError:
    """An import that failed names the extra to install; anything else, its own first line."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ModuleNotFoundError) and cause.name in EXTRAS:
            extra = EXTRAS[cause.name]
            return InputError(f"{group} needs {cause.name}: pip install 'lamp-exp[{extra}]'")
        cause = cause.__cause__
    return InputError(f"{group}: {' '.join(str(error).split())}")


def draw_seed(cfg: DictConfig) -> None:
    """`seed=null` draws one, so that the record can name it."""
    if cfg.seed is None:
        cfg.seed = random.SystemRandom().randrange(2**31)


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
        near = difflib.get_close_matches(found[1], Experiment.__dataclass_fields__, n=1)
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

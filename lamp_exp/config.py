"""Builds an experiment's objects from Hydra's configuration; no other module does."""

from __future__ import annotations

import ast
import importlib.util
import inspect
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, make_dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Optional, cast

from hydra import compose, initialize_config_dir
from hydra.conf import HydraConf
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, InstantiationException
from hydra.types import RunMode
from hydra.utils import instantiate
from omegaconf import MISSING, DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from lamp_exp import options
from lamp_exp.artefacts import Adapter, LanguageModel, Router
from lamp_exp.conf_files import conf_folder
from lamp_exp.contracts import DenseRetriever, Model, Retriever, Summary, Task, WrittenSummary
from lamp_exp.data import check_sources
from lamp_exp.errors import InputError, did_you_mean
from lamp_exp.experiment import ddp, stages
from lamp_exp.experiment.experiment import (
    NO_PROFILE,
    Configuration,
    DataOptions,
    Experiment,
    Reader,
    Retrieval,
    TrainerOptions,
    Writer,
    flatten,
)
from lamp_exp.experiment.identity import deciding_options
from lamp_exp.experiment.launch import launch, make_output_dir
from lamp_exp.experiment.run import FinishedRun, OnStart
from lamp_exp.hub import check_reachable
from lamp_exp.hydra_messages import explain
from lamp_exp.models.generation import check_generation
from lamp_exp.options import (
    ANSWERING,
    FEEDBACK,
    GROUPS,
    OPTIONS,
    PERSONAL_GROUPS,
    QUESTIONS,
    TUNE,
    Option,
    Usage,
)
from lamp_exp.override_words import key_of, override
from lamp_exp.results.folder import training_settings
from lamp_exp.storage.answers import DiskMap
from lamp_exp.storage.vectors import VectorCache
from lamp_exp.values import (
    FeedbackOptions,
    ModelSettings,
    PartView,
    ProfileOptions,
    TrainingOptions,
)

SHARED_BY_CANDIDATES = {  # what is the same for all candidates of a router
    "task", "seed", "router", "experiment", "logger", "output_dir", "data_dir", "rerun", "dry_run",
    "fail_fast", *(option.name for option in OPTIONS.values() if option.role == QUESTIONS),
}  # fmt: skip
SCHEMA = "schema"
EXTRAS = {"openai": "openai", "gguf": "gguf", "peft": "lora"}  # package: our extra that brings it


# --- the schema ------------------------------------------------------------------------------


def register() -> None:
    """Makes the table of options known to Hydra as the schema that conf/config.yaml names."""
    known = ConfigStore.instance()
    if f"{SCHEMA}.yaml" not in known.list(""):  # to store it takes a tenth of a composition
        known.store(name=SCHEMA, node=schema())


@lru_cache
def schema() -> type:
    """A dataclass with all groups and options, nested as their dotted names are."""
    groups = [(name, Any, MISSING) for name in GROUPS if name != "experiment"]
    nested: dict[str, list[tuple[str, Any, Any]]] = {}
    plain: list[tuple[str, Any, Any]] = []
    for option in OPTIONS.values():
        outer, _, last = option.name.rpartition(".")
        (nested.setdefault(outer, []) if outer else plain).append((last, *_typed(option)))
    inner = [
        (name, made, field(default_factory=made))
        for name, fields in nested.items()
        for made in [_importable_dataclass(f"{name.title()}Schema", fields)]
    ]
    fields = [*groups, ("experiment", Any, None), *plain, *inner]
    return _importable_dataclass("ExperimentSchema", fields)


def _importable_dataclass(name: str, fields: list[tuple[str, Any, Any]]) -> type:
    """A dataclass that is pickled by its name: by value, joblib's processes would damage it."""
    made = make_dataclass(name, fields, namespace={"__module__": __name__})
    globals()[name] = made
    return made


def _typed(option: Option) -> tuple[Any, Any]:
    """An option's type and default, as OmegaConf checks them."""
    if option.kind is list:
        return list[int], field(default_factory=lambda: list(option.default))
    kind = Any if option.kind is object else option.kind
    return (Optional[kind] if option.nullable else kind), option.default  # noqa: UP045


schema()  # an imported module has the classes that pickles name


# --- checks ----------------------------------------------------------------------------------


def check(cfg: DictConfig) -> None:
    """Raises InputError for a value that an option does not allow."""
    for group in ("experiment", "sweep"):
        if OmegaConf.is_config(OmegaConf.select(cfg, group)):
            raise InputError(
                f"the YAML of {group}= lacks its first line `# @package _global_`, without which "
                f"its values ({', '.join(map(str, cfg[group]))}) would not be used"
            )
    _refuse_unknown(cfg)
    for name, option in OPTIONS.items():
        options.check_value(name, OmegaConf.select(cfg, name))
        changed = OmegaConf.select(cfg, name) != option.default
        if option.needs and changed and not _is_given(cfg, option.needs):
            raise InputError(f"{name} has no effect without {option.needs}")
        if option.component:
            _check_component(name, option.component, OmegaConf.select(cfg, name))
    for option in options.COMPONENT_OPTIONS:
        option.check(OmegaConf.select(cfg, option.name))
    for name, reason in options.FIXED_TRAINER_OPTIONS.items():
        if OmegaConf.select(cfg, f"trainer.{name}") is not None:
            raise InputError(f"trainer.{name} cannot be set: {reason}")


def _is_given(cfg: DictConfig, need: str) -> bool:
    """Whether an option is not null, or has the value that `need` names (`name=value`)."""
    name, _, wanted = need.partition("=")
    value = OmegaConf.select(cfg, name)
    return options.as_text(value) == wanted if wanted else value is not None


def _check_component(name: str, group: str, value: Any) -> None:
    """Raises InputError for what is no component, such as its name alone."""
    if value is not None and not OmegaConf.is_config(value):
        raise InputError(f"{name}={value}: choose a component with {group}@{name}={value}")


def _refuse_unknown(cfg: DictConfig) -> None:
    """Refuses what `+name=value` added beside the options: nothing would read it."""
    outer = {name.partition(".")[0] for name in OPTIONS if "." in name}
    inner = [f"{name}.{last}" for name in sorted(outer) for last in cfg[name]]
    for name in [*map(str, cfg), *inner]:
        if name not in {*GROUPS, *OPTIONS, *outer, "hydra"}:
            raise InputError(f"{name} is no option{did_you_mean(name, [*GROUPS, *OPTIONS])}")


def _refuse_emptied(cfg: DictConfig, choices: Mapping[str, Any]) -> None:
    """Raises InputError for a nested component whose values were removed, but not its choice."""
    for group, name in _nested(choices):
        place = group.partition("@")[2]
        if not OmegaConf.is_config(OmegaConf.select(cfg, place)):
            raise InputError(f"{place} ({name}) is empty: to remove it, give '~{group}'")


def check_launcher(hydra: HydraConf) -> None:
    """Raises InputError for a launcher or a named sweep that a single run would not use."""
    launcher, sweep = (hydra.runtime.choices.get(name) for name in ("hydra/launcher", "sweep"))
    if hydra.mode is RunMode.RUN and sweep is not None:
        raise InputError(f"+sweep={sweep} is of many runs: add -m")
    if hydra.mode is RunMode.RUN and launcher != "basic":
        raise InputError(f"hydra/launcher={launcher} is for sweeps: add -m, even for one run")


def draw_seed(cfg: DictConfig) -> None:
    """`seed=null` draws a seed, so that the record can name it."""
    if cfg.seed is None:
        cfg.seed = random.SystemRandom().randrange(2**31)


# --- the configuration as plain values -------------------------------------------------------


def configure(cfg: DictConfig, choices: Mapping[str, Any]) -> Configuration:
    """The configuration of one experiment; `choices` are Hydra's `runtime.choices`."""
    _refuse_emptied(cfg, choices)
    settings = resolved(cfg)
    chosen = _flat(cfg)
    defaults = _flat_defaults(_roots(choices), _nested(choices))
    values = dict(flatten(settings))
    changed = {
        name: values.get(name)
        for name, value in chosen.items()
        if name not in defaults or not equal_values(value, defaults[name])
    }
    changed |= {f"~{name}": None for name in defaults if name not in chosen}
    changed |= dict(map(_named_component, nested_overrides(choices)))
    component_values = {
        name: values[name]
        for name, value in chosen.items()
        if name not in changed and _of_component(name) and not is_interpolated(value)
    }
    names = {str(group): choice for group, choice in choices.items()}
    return Configuration(names, settings, changed, component_values)


def _of_component(name: str) -> bool:
    """Whether an option is one of a component's YAML."""
    places = (option.name for option in OPTIONS.values() if option.component)
    return name.partition(".")[0] in GROUPS or any(name.startswith(f"{one}.") for one in places)


def resolved(cfg: DictConfig) -> dict[str, Any]:
    """The whole configuration as plain values, resolved; InputError for values that are missing."""
    missing = sorted(OmegaConf.missing_keys(cfg))
    if missing:
        names = ", ".join(missing)
        raise InputError(f"{names} must be given: it has no default (see the YAML's comment)")
    content = OmegaConf.to_container(cfg, resolve=True)
    assert isinstance(content, dict)
    return {str(name): value for name, value in content.items()}


Choices = tuple[tuple[str, str], ...]  # pairs of a group and the name of its option


def _roots(choices: Mapping[str, Any]) -> Choices:
    """The chosen component of each group whose YAML makes defaults."""
    return tuple(
        (group, str(choice))
        for group, choice in sorted(choices.items())
        if group in GROUPS and group != "experiment"
    )


def _nested(choices: Mapping[str, Any]) -> Choices:
    """The components inside others, by group and place: `retriever@retriever.of.bm25`."""
    return tuple(
        (group, str(choice))
        for group, choice in sorted(choices.items())
        if "@" in group and choice is not None
    )


def nested_overrides(choices: Mapping[str, Any]) -> Sequence[str]:
    """The overrides that make the nested components, where they differ from the outer YAMLs."""
    return _nested_overrides(_roots(choices), _nested(choices))


@lru_cache(maxsize=1024)
def _nested_overrides(roots: Choices, nested: Choices) -> tuple[str, ...]:
    wanted, words = dict(nested), [f"{group}={name}" for group, name in roots]
    start = len(words)
    while wanted:
        chosen = compose_today(words, return_hydra_config=True).hydra.runtime.choices
        made = dict(_nested(chosen))
        missing = [
            *(f"~{group}" for group in made if group not in wanted),
            *(
                f"{group}={wanted[group]}"
                for group in made
                if made[group] != wanted.get(group, made[group])
            ),
            *(
                f"{'' if group in chosen else '+'}{group}={name}"
                for group, name in nested
                if group not in made
            ),
        ]
        if not missing:
            break
        words.append(min(missing, key=lambda word: word.count(".")))  # the outer ones first
    return tuple(words[start:])


def _named_component(override: str) -> tuple[str, str | None]:
    """The place and name of a nested component: `retriever.of.bm25`, `bm25_okapi`."""
    group, _, name = override.lstrip("+").partition("=")
    removed = "~" if group.startswith("~") else ""
    return f"{removed}{group.partition('@')[2]}", name or None


def _flat(cfg: DictConfig) -> dict[str, Any]:
    """All values but the groups that change no number, unresolved, by dotted name."""
    content = OmegaConf.to_container(cfg, resolve=False)
    assert isinstance(content, dict)
    kept = {str(name): value for name, value in content.items() if name not in ("hydra", "logger")}
    return dict(flatten(kept))


@lru_cache(maxsize=1024)  # of a sweep's combinations
def _flat_defaults(roots: Choices, nested: Choices) -> Mapping[str, Any]:
    """The values of the chosen components' YAMLs and of all other options, unresolved.

    A group of which only values count (the trainer) has those of its default option.
    """
    words = [
        f"{group}={GROUPS[group].default if GROUPS[group].by_values else name}"
        for group, name in roots
    ]
    return _flat(compose_today([*words, *_nested_overrides(roots, nested)]))


def compose_today(overrides: list[str], **options: Any) -> DictConfig:
    """Composes `conf/config.yaml`; within a Hydra application, with its search path."""
    register()
    if GlobalHydra.instance().is_initialized():
        given = HydraConfig.get().overrides.hydra if HydraConfig.initialized() else []
        search_path = [word for word in given if word.startswith("hydra.searchpath=")]
        return compose("config", [*overrides, *search_path], **options)
    with initialize_config_dir(conf_folder(), version_base="1.3"):
        return compose("config", [*overrides, *_search_path], **options)


_search_path: list[str] = []  # the override that adds the user's folder


def search_path(folder: Path) -> str:
    """The override that adds a folder of the user's YAMLs, as --config-dir does."""
    if not folder.is_dir():
        raise InputError(f"--config-dir {folder} is no folder")
    return f"hydra.searchpath=['file://{folder.absolute()}']"


@contextmanager
def config_dir(folder: Path | None) -> Iterator[None]:
    """Within the block, `compose_today` also finds the YAMLs of a folder, as --config-dir does."""
    outer, _search_path[:] = list(_search_path), [] if folder is None else [search_path(folder)]
    forget_defaults()
    try:
        yield
    finally:
        _search_path[:] = outer
        forget_defaults()


def forget_defaults() -> None:
    """Reads the components' YAMLs and classes anew when they are needed next."""
    for cached in (_nested_overrides, _flat_defaults, _literal):
        cached.cache_clear()


def is_interpolated(value: Any) -> bool:
    """Whether an unresolved value follows from another one."""
    return isinstance(value, str) and "${" in value


def equal_values(one: Any, other: Any) -> bool:
    """Whether two values are equal; True is not 1."""
    return bool(one == other and isinstance(one, bool) == isinstance(other, bool))


# --- the experiment --------------------------------------------------------------------------


@dataclass(frozen=True)
class ExperimentBuilder:
    """Builds the experiments of one composed configuration; `k=tune` needs one for each k.

    `choices` are the names of the chosen options; `answers` is the cache of API replies. `words`
    are the overrides that made the configuration: those of a router's candidates begin with them.
    """

    cfg: DictConfig
    choices: Mapping[str, Any]
    answers: Any = None
    words: tuple[str, ...] = ()

    @classmethod
    def of(cls, cfg: DictConfig, hydra: HydraConf, output_dir: Path) -> ExperimentBuilder:
        """The builder of a running application's configuration."""
        answers = DiskMap(output_dir / ".cache" / "answers.sqlite")
        return cls(cfg, dict(hydra.runtime.choices), answers, tuple(hydra.overrides.task))

    @property
    def tuned_values(self) -> list[int]:
        """The values from which k is chosen; empty if k is given or no profile is read."""
        check(self.cfg)
        given = tuple(self.cfg.k_values) != OPTIONS["k_values"].default
        if given and self.cfg.k not in (0, TUNE):  # 0: the baseline of a sweep over k=0,tune
            raise InputError(f"k_values has no effect without k={TUNE}")
        tuned = self.cfg.k == TUNE and class_value(self.cfg, "retriever", "uses_profile")
        return list(self.cfg.k_values) if tuned else []

    def build(
        self, k: int | None = None, part: str | None = None
    ) -> tuple[Experiment, Configuration]:
        """The experiment, with another k and part if they are given."""
        cfg = self.cfg.copy()
        if k is not None:
            cfg.k = k
        elif cfg.k == TUNE:
            cfg.k = 0  # of a retriever that reads no profile
        cfg.part = part or cfg.part
        return self._build(cfg, self.choices)

    def build_baseline(self) -> tuple[Experiment, Configuration]:
        """The same experiment without any personal part."""
        cfg, choices = self.cfg.copy(), dict(self.choices)
        cfg.k = NO_PROFILE
        defaults = {group: str(GROUPS[group].default) for group in (*PERSONAL_GROUPS, "router")}
        made = compose_today([f"{group}={name}" for group, name in defaults.items()])
        with open_dict(cfg):
            cfg.update({group: made[group] for group in defaults})
        return self._build(cfg, choices | defaults)

    # --- a router's candidates -----------------------------------------------------------------

    @property
    def routed(self) -> bool:
        """Whether a router chooses among the answers of several runs."""
        default = GROUPS["router"].default
        return str(self.choices.get("router", default)) != default

    @property
    def configuration(self) -> Configuration:
        """The configuration alone; no component is built."""
        check(self.cfg)
        cfg = self.cfg.copy()
        with open_dict(cfg):
            cfg.pop("hydra", None)
        return configure(cfg, self.choices)

    @property
    def candidates(self) -> dict[str, dict[str, Any]]:
        """What each candidate changes, by name; InputError for what no candidate may change."""
        given = cast(
            dict[str, Any], OmegaConf.to_container(self.cfg.router.candidates, resolve=True)
        )
        for name, changes in given.items():
            if changes is not None and not (isinstance(changes, dict) and changes):
                raise InputError(f"router.candidates.{name}={changes} must name options: {{k: 1}}")
        found = {name: dict(flatten(changes)) for name, changes in given.items() if changes}
        for name, changes in found.items():
            for key in changes:
                if key.partition(".")[0].partition("/")[0] in SHARED_BY_CANDIDATES:
                    raise InputError(
                        f"router.candidates.{name} cannot change {key}, which is that of the run"
                    )
        return found

    def candidate(self, name: str) -> ExperimentBuilder:
        """The builder of a candidate's run, which is an ordinary one."""
        changes = self.candidates[name]
        k = changes.get("k", self.cfg.k)
        replaced = {g for g in changes if g in GROUPS and changes[g] != self.choices.get(g)}

        def is_kept(word: str) -> bool:
            key = key_of(word)
            owner = re.split(r"[.@/]", key)[0]
            unused = {"seed", *(() if k == TUNE else ("k_values",))}
            return not (owner in replaced | {"router"} or key in {*changes, *unused})

        words = (
            *filter(is_kept, self.words),
            *(override(key, value) for key, value in changes.items()),
            *("router=none", f"seed={self.cfg.seed}"),
        )
        try:
            cfg = compose_today(list(words), return_hydra_config=True)
        except (HydraException, OmegaConfBaseException) as error:
            raise InputError(f"router.candidates.{name}: {explain(error)}") from error
        return ExperimentBuilder(cfg, dict(cfg.hydra.runtime.choices), self.answers, words)

    def on_train(self, fold: int | None = None) -> ExperimentBuilder:
        """The builder of the same run on train, or on a fold of it."""
        cfg = self.cfg.copy()
        cfg.part, cfg.fold = "train", fold
        return replace(self, cfg=cfg)

    def build_router(self) -> Router:
        """The chosen router. Raises InputError for options that it does not have."""
        cfg, given = self.cfg.copy(), {}
        with open_dict(cfg):
            cfg.pop("hydra", None)
        content = cast(dict[str, Any], OmegaConf.to_container(cfg.router, resolve=False))
        _refuse_missing_folders(dict(flatten(content, "router.")))
        if getattr(recipe(cfg, "router", check_names=False).func, "asks_a_model", False):
            given["language_model"] = self._language_model(cfg)
        return cast(Router, build(cfg, "router", **given))

    def _language_model(self, cfg: DictConfig) -> LanguageModel:
        """The model that a router asks; its options leave the router's configuration."""
        own = cfg.copy()
        names = ("model", "name", "max_length", "max_new_tokens")
        with open_dict(cfg), open_dict(own):
            model, weights, max_length, max_new_tokens = (cfg.router.pop(name) for name in names)
            own.reader.model, own.reader.name = model, weights
            own.max_length, own.max_new_tokens = max_length, max_new_tokens
        settings = _model_settings(own, {} if self.answers is None else self.answers, ())
        settings = replace(settings, labels=tuple(self.candidates))
        reader = _reader(own, settings)
        precision = reader.trainer.precision
        return LanguageModel(reader.model, reader.one_process, precision, max_length)

    def _build(
        self, cfg: DictConfig, choices: Mapping[str, Any]
    ) -> tuple[Experiment, Configuration]:
        with open_dict(cfg):
            cfg.pop("hydra", None)
        configuration = configure(cfg, choices)
        experiment = build_experiment(cfg, self.answers)
        _refuse_without_effect(experiment, configuration.changed)
        return experiment, configuration


def run_composed(
    cfg: DictConfig,
    hydra: HydraConf,
    sweep: str | None = None,
    on_start: OnStart = lambda folder, baseline: None,
    with_baseline: bool = False,
) -> FinishedRun:
    """Runs the experiment of a composed configuration, unless it is finished; see `launch`."""
    output_dir = make_output_dir(cfg.output_dir)
    builder = ExperimentBuilder.of(cfg, hydra, output_dir)
    check_quickly(cfg)
    check_hub(cfg)
    with ddp.alive(output_dir):
        try:
            return launch(builder, output_dir, cfg.rerun, sweep, on_start, with_baseline)
        finally:
            ddp.dismiss(output_dir)


def build_experiment(cfg: DictConfig, answers: Any = None) -> Experiment:
    """The experiment as objects; components that its mode does not need are not built."""
    mode, task, data, usage = check_quickly(cfg)
    prompts, runs_model = usage.makes_prompts, mode in ANSWERING
    settings = _model_settings(cfg, {} if answers is None else answers, task.labels)
    model = build(cfg, "model", settings=settings) if prompts else None
    summary: Summary | None = build(cfg, "summary") if "summary" in usage.others else None
    return Experiment(
        mode=mode,
        task=task,
        data=data,
        retrieval=Retrieval(
            _retriever(cfg, data.cache_dir), cfg.k, cfg.skip, cfg.document_dates, cfg.rank_processes
        ),
        augmentation=build(cfg, "augmentation") if prompts else None,
        model=model,
        max_length=cfg.max_length,
        trainer=_trainer(cfg) if runs_model else None,
        logger=recipe(cfg, "logger") if runs_model else None,
        from_checkpoint=bool(training_settings(str(OmegaConf.select(cfg, "model.name")))),
        reader=_reader(cfg, settings) if usage.reads else None,
        personal_groups=personal_groups(cfg),
        general_groups=general_groups(cfg),
        adapter=_adapter(cfg, data.cache_dir) if runs_model else None,
        summary=summary,
        writer=_writer(cfg, cast(WrittenSummary, summary), settings) if usage.writes else None,
    )


def _writer(cfg: DictConfig, summary: WrittenSummary, settings: ModelSettings) -> Writer:
    """The model that writes summaries: the run's, unless `summary` names another one."""
    own = cfg.copy()
    with open_dict(own):
        if summary.model is not None:
            own.model = _model_options("summary.model", summary.model)
        if summary.name is not None:
            own.model.name = summary.name
        if "decoding" in own.model:
            own.model.decoding = "free"  # labels are for answers
    if OmegaConf.is_missing(own.model, "name"):
        raise InputError(f"summary.model={summary.model} needs summary.name: it has no default")
    settings = replace(
        settings,
        max_length=summary.input_tokens,
        max_new_tokens=summary.max_new_tokens,
        labels=(),
    )
    trainer, content = _trainer(own), OmegaConf.to_container(own.model, resolve=True)
    options = deciding_options("model", cast(dict[str, Any], content))
    generation = options.get("generation") or {}
    sampled = generation.get("do_sample") or generation.get("temperature")
    return Writer(
        model=build(own, "model", settings=settings),
        build=lambda: cast(Model, build(own, "model", settings=settings)),
        trainer=trainer,
        settings={
            "model": options,
            "input_tokens": summary.input_tokens,
            "max_new_tokens": summary.max_new_tokens,
            "precision": trainer.precision,
            "seed": cfg.seed if sampled else None,
        },
    )


def _reader(cfg: DictConfig, settings: ModelSettings) -> Reader:
    """The model that gives feedback: the run's, unless `reader` names another one."""
    own = cfg.copy()
    with open_dict(own):
        if cfg.reader.model is not None:
            own.model = _model_options("reader.model", cfg.reader.model)
        if cfg.reader.name is not None:
            own.model.name = cfg.reader.name
    if OmegaConf.is_missing(own.model, "name"):
        raise InputError("reader.name must be given: the model of the reader has no default")
    content = cast(dict[str, Any], OmegaConf.to_container(own, resolve=True))
    trainer, given = _trainer(own), recipe(own, "model")

    def with_weights(name: str | None) -> Any:
        return given(**({} if name is None else {"name": name}), settings=settings)

    model = with_weights(None)
    return Reader(
        model=model,
        build=with_weights,
        augmentation=build(own, "augmentation"),
        max_length=cfg.max_length,
        trainer=trainer,
        feedback=FeedbackOptions(**cast(dict[str, Any], OmegaConf.to_container(cfg.feedback))),
        settings={
            "model": deciding_options("model", content["model"]),
            "augmentation": deciding_options("augmentation", content["augmentation"]),
            **{name: content[name] for name in ("max_length", "max_new_tokens")},
            "precision": trainer.precision,
            "sampling_seed": content["seed"] if model.samples else None,
        },
        training={**content["training"], "seed": content["seed"]},
        checkpoint=training_settings(str(own.model.get("name"))),
    )


def _model_options(option: str, name: str) -> DictConfig:
    """The options of a model's YAML; `option` chose it."""
    try:
        return cast(DictConfig, compose_today([f"model={name}"]).model)
    except HydraException as error:
        raise InputError(f"{option}={name} is no option of model") from error


def check_quickly(cfg: DictConfig) -> tuple[str, Task, DataOptions, Usage]:
    """Checks values and files before a model's libraries are imported, which takes seconds.

    Returns the mode, the task, the options of the data and what is used; raises InputError.
    """
    check(cfg)
    mode, task = cfg.mode, cast(Task, build(cfg, "task"))
    _check_folders(cfg)
    _check_passages(cfg)
    _check_generation(cfg)
    data = _data_options(cfg, Path(cfg.output_dir).expanduser() / ".cache")
    usage = usage_of(cfg)
    is_bound = class_value(cfg, "retriever", "is_bound")
    from_train = (usage.reads and mode != FEEDBACK and not is_bound) or (
        "adapter" in usage.others and class_value(cfg, "adapter", "learns_from_train")
    )
    check_sources(task, data.data_dir, data.split, stages.parts_read(mode, data, from_train))
    return mode, task, data, usage


def usage_of(cfg: DictConfig) -> Usage:
    """What the experiment of a configuration does, by the classes of its components."""
    uses_profile, learns = (
        class_value(cfg, "retriever", name) for name in ("uses_profile", "learns")
    )
    writes = bool(class_value(cfg, "summary", "writes"))
    groups = {"others": personal_groups(cfg), "general": general_groups(cfg)}
    return Usage.of(cfg.mode, uses_profile, cfg.k, learns, writes=writes, **groups)


def check_hub(cfg: DictConfig) -> None:
    """Raises InputError for weights that only the hub has, if no hub answers.

    To be called before heavy imports. Components of other packages may mean something else by
    `name`, and so does a model behind an API; with `fresh`, no weights are read.
    """
    options = _used_components(cfg)
    for name, value in options.items():
        place, _, last = name.rpartition(".")
        ours = str(options.get(f"{place}._target_")).startswith("lamp_exp.")
        fresh = any(other.startswith(f"{place}.fresh.") for other in options)
        has_weights = ours and not fresh and f"{place}.base_url" not in options
        of_weights = last == "name" and place != "summary"  # whose writer may be an API
        if has_weights and of_weights and isinstance(value, str):
            check_reachable(name, value, str(options.get(f"{place}.gguf_file")))


def _used_components(cfg: DictConfig) -> dict[str, Any]:
    """The options, by dotted name, of the components that have weights, if the mode uses them."""
    usage = usage_of(cfg)
    profile = usage.retrieves
    used = {
        "model": usage.makes_prompts or usage.reads or _run_model_writes(cfg),
        "retriever": profile,
        "profile": profile,
        "reader": usage.reads,
        "summary": usage.writes,
        "adapter": usage.answers and "adapter" in usage.others,
    }
    content = {
        group: cast(dict[str, Any], OmegaConf.to_container(cfg[group], resolve=True))
        for group in used
        if used[group] and not OmegaConf.missing_keys(cfg[group])
    }
    return dict(flatten(content))


def _run_model_writes(cfg: DictConfig) -> bool:
    """Whether the run's own model writes summaries."""
    return usage_of(cfg).writes and cfg.summary.get("model") is None


def _check_folders(cfg: DictConfig) -> None:
    """Raises InputError for a name that looks like a folder, and is none."""
    _refuse_missing_folders(_used_components(cfg))


def _refuse_missing_folders(values: Mapping[str, Any]) -> None:
    """`values` are options by their dotted names."""
    for name, value in values.items():
        if name.rpartition(".")[2] not in ("name", "tokenizer") or not isinstance(value, str):
            continue
        if value.startswith(("/", "./", "../", "~")) and not Path(value).expanduser().exists():
            raise InputError(f"{name}={value}: there is no such folder")


def _check_passages(cfg: DictConfig) -> None:
    """Raises InputError for several passages for a model that reads one."""
    if cfg.mode not in ANSWERING:
        return
    passages = [class_value(cfg, group, "multiple_passages") for group in ("augmentation", "model")]
    if passages == [True, False]:
        raise InputError(
            "augmentation=fid reads several passages apart, which only an encoder-decoder "
            "model can: use augmentation=ipa, or a model such as model=flan_t5_base"
        )


def _check_generation(cfg: DictConfig) -> None:
    """Raises InputError for options of `model.generation` that no answer would obey."""
    if cfg.mode in ANSWERING and class_value(cfg, "model", "uses_generation_config"):
        given = OmegaConf.to_container(cfg.model, resolve=True)
        check_generation(cast(dict[str, Any], given).get("generation") or {})


def _refuse_without_effect(experiment: Experiment, changed: Mapping[str, Any]) -> None:
    """Raises InputError for options that the model, as it was built, does not use."""
    model = experiment.model
    if model is None or experiment.trainer is None:
        return
    unused = options.ANSWERING_TRAINER_OPTIONS | options.SHARING_TRAINER_OPTIONS
    for name in changed:
        if name in unused and not model.uses_trainer:
            raise InputError(f"{name} has no effect: this model does not run on this machine")
        if name.startswith("model.fresh.") and getattr(model, "fresh", None) is None:
            raise InputError(f"{name} has no effect: model.name has weights of its own")


def experiment_from_settings(settings: Mapping[str, Any]) -> Experiment:
    """The experiment of a resolved configuration, for processes that share another's work."""
    return build_experiment(OmegaConf.create(dict(settings)))


def _data_options(cfg: DictConfig, cache_dir: Path) -> DataOptions:
    profile = cast(dict[str, Any], OmegaConf.to_container(cfg.profile))
    del profile["neighbours_by"]  # which is built
    return DataOptions(
        data_dir=cfg.data_dir,
        split=cfg.split,
        part=cfg.part,
        limit=cfg.limit,
        view=PartView(
            ProfileOptions(**profile), cfg.fixes, cfg.seed or 0, limit_sample=cfg.limit_sample
        ),
        selection=cfg.selection,
        cache_dir=cache_dir,
        neighbours_by=_neighbours_by(cfg, cache_dir),
        fold=cfg.fold,
    )


def _neighbours_by(cfg: DictConfig, cache_dir: Path) -> DenseRetriever | None:
    """What compares profiles. Raises InputError if it is missing, or compares no vectors."""
    if cfg.profile.pool != "neighbours":
        return None
    name = "profile.neighbours_by"
    hint = f"retriever@{name}=contriever, or another dense retriever"
    if cfg.profile.neighbours_by is None:
        raise InputError(f"profile.pool=neighbours needs what compares profiles: {hint}")
    made = build(cfg, name)
    if not isinstance(made, DenseRetriever):
        raise InputError(f"{name}: {type(made).__name__} compares no vectors: choose {hint}")
    made.use_vector_store(VectorCache(cache_dir / "vectors"))
    return made


def _retriever(cfg: DictConfig, cache_dir: Path) -> Retriever:
    retriever: Retriever = build(cfg, "retriever")
    retriever.use_vector_store(VectorCache(cache_dir / "vectors"))
    return retriever


def _adapter(cfg: DictConfig, cache_dir: Path) -> Adapter:
    adapter: Adapter = build(cfg, "adapter")
    for inner in adapter.components:
        if isinstance(inner, Retriever):
            inner.use_vector_store(VectorCache(cache_dir / "vectors"))
    return adapter


def _model_settings(cfg: DictConfig, answers: Any, labels: tuple[str, ...]) -> ModelSettings:
    training = cast(dict[str, Any], OmegaConf.to_container(cfg.training))
    return ModelSettings(
        max_length=cfg.max_length,
        max_new_tokens=cfg.max_new_tokens,
        predict_batch_size=cfg.predict_batch_size,
        seed=cfg.seed,
        training=TrainingOptions(**training),
        answers=answers,
        labels=labels,
    )


def _trainer(cfg: DictConfig) -> TrainerOptions:
    made = recipe(cfg, "trainer")
    precision = str(made.keywords.get("precision", ""))
    epochs, batches = map(made.keywords.get, ("max_epochs", "limit_train_batches"))
    return TrainerOptions(made, precision, epochs, batches)


def personal_groups(cfg: DictConfig) -> frozenset[str]:
    """The groups whose chosen component is one that the baseline lacks, besides the retriever."""
    reading = frozenset(g for g in PERSONAL_GROUPS if class_value(cfg, g, "uses_profile"))
    return reading | general_groups(cfg)


def general_groups(cfg: DictConfig) -> frozenset[str]:
    """Those of them whose component reads no profile: an adapter that only learns from train."""
    uses_profile, learns = (
        class_value(cfg, "adapter", name) for name in ("uses_profile", "learns_from_train")
    )
    return frozenset({"adapter"} if learns and not uses_profile else ())


def class_value(cfg: DictConfig, group: str, name: str) -> Any:
    """A value of the chosen component's class, which is imported only if it must be.

    A literal in the body of the class or of one that it inherits from is read from the source,
    because to import the libraries of models and encoders takes seconds.
    """
    found = _literal(cfg[group]._target_, name)
    return getattr(recipe(cfg, group).func, name) if found is None else found


@lru_cache(maxsize=1024)
def _literal(target: str, name: str) -> Any:
    """The literal that a class, given by its dotted name, or a base of it has for `name`.

    None if it is no literal, or the source is not found.
    """
    module, _, class_name = target.rpartition(".")
    tree = ast.parse(_source(module))
    made = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    defined = next((node for node in made if node.name == class_name), None)
    if defined is None:
        return None
    for line in defined.body:
        if isinstance(line, ast.FunctionDef) and line.name == name:
            return None
        names = line.targets if isinstance(line, ast.Assign) else [getattr(line, "target", None)]
        if any(isinstance(one, ast.Name) and one.id == name for one in names):
            with suppress(ValueError, TypeError):  # an expression, or no value
                return ast.literal_eval(line.value)  # type: ignore[attr-defined]
            return None
    places = {node.name: f"{module}.{node.name}" for node in made}
    for line in tree.body:
        if isinstance(line, ast.ImportFrom) and line.module and not line.level:
            places |= {one.asname or one.name: f"{line.module}.{one.name}" for one in line.names}
    base = defined.bases[0] if len(defined.bases) == 1 else None  # of several, Python finds it
    if isinstance(base, ast.Name) and base.id in places:
        return _literal(places[base.id], name)
    return None


def _source(module: str) -> bytes:
    """The source of a module, which is not imported; empty if there is none."""
    with suppress(ModuleNotFoundError, ValueError):  # `recipe` explains it
        spec = importlib.util.find_spec(module)
        if spec and spec.origin and spec.origin.endswith(".py"):
            return Path(spec.origin).read_bytes()
    return b""


def build(cfg: DictConfig, group: str, **given: Any) -> Any:
    """The component that a group's YAML describes, with objects that only Python can give."""
    return recipe(cfg, group)(**given)


def recipe(cfg: DictConfig, group: str, check_names: bool = True) -> partial[Any]:
    """A partial that builds a component.

    Options that the component does not have are refused, unless they are not looked at.
    """
    try:
        node = OmegaConf.select(cfg, group)
        made: partial[Any] = instantiate(node, _partial_=True, _convert_="all")
    except InstantiationException as error:
        raise _explained(error, group) from error
    if group == "model":
        made.keywords.pop("display_name", None)  # only reports read it
    parameters = inspect.signature(made.func).parameters
    takes_any = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values())
    for name in made.keywords if check_names else ():
        if name not in parameters and not takes_any:
            hint = did_you_mean(name, parameters)
            raise InputError(f"{group}.{name} is no option of {made.func.__qualname__}{hint}")
    return made


def _explained(error: InstantiationException, group: str) -> InputError:
    """An import that failed names the extra to install; any other error, its own first line."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ModuleNotFoundError) and cause.name in EXTRAS:
            extra = EXTRAS[cause.name]
            return InputError(f"{group} needs {cause.name}: pip install 'lamp-exp[{extra}]'")
        cause = cause.__cause__
    return InputError(f"{group}: {' '.join(str(error).split())}")

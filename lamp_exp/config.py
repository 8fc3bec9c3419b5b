"""Builds an experiment's objects from Hydra's configuration; no other module does."""

from __future__ import annotations

import ast
import importlib.util
import inspect
import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, make_dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Optional, cast

from hydra import compose, initialize_config_dir
from hydra.conf import HydraConf
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import InstantiationException
from hydra.types import RunMode
from hydra.utils import instantiate
from omegaconf import MISSING, DictConfig, OmegaConf, open_dict

from lamp_exp import options
from lamp_exp.contracts import Retriever, Task
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
    flatten,
)
from lamp_exp.experiment.identity import deciding_options
from lamp_exp.experiment.launch import launch, make_output_dir
from lamp_exp.experiment.run import FinishedRun, OnStart
from lamp_exp.options import (
    ANSWERING,
    FEEDBACK,
    GROUPS,
    OPTIONS,
    PERSONAL_GROUPS,
    TUNE,
    WITHOUT_PROMPTS,
    Option,
    Usage,
)
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

EXTRAS = {"openai": "openai", "gguf": "gguf", "peft": "lora"}  # package: our extra that brings it


# --- the schema ------------------------------------------------------------------------------


def register() -> None:
    """Makes the table of options known to Hydra as the schema that conf/config.yaml names."""
    ConfigStore.instance().store(name="schema", node=schema())


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


def conf_folder() -> str:
    """The conf folder, absolute: in the checkout beside the package, else inside the wheel."""
    package = Path(__file__).parent
    inside = package / "conf"
    return str(inside if inside.is_dir() else package.parent / "conf")


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
        unused = option.needs and OmegaConf.select(cfg, option.needs) is None
        if unused and OmegaConf.select(cfg, name) != option.default:
            raise InputError(f"{name} has no effect without {option.needs}")
    for option in options.COMPONENT_OPTIONS:
        option.check(OmegaConf.select(cfg, option.name))
    for name, reason in options.FIXED_TRAINER_OPTIONS.items():
        if OmegaConf.select(cfg, f"trainer.{name}") is not None:
            raise InputError(f"trainer.{name} cannot be set: {reason}")


def _refuse_unknown(cfg: DictConfig) -> None:
    """Refuses what `+name=value` added beside the options: nothing would read it."""
    outer = {name.partition(".")[0] for name in OPTIONS if "." in name}
    inner = [f"{name}.{last}" for name in sorted(outer) for last in cfg[name]]
    for name in [*map(str, cfg), *inner]:
        if name not in {*GROUPS, *OPTIONS, *outer, "hydra"}:
            raise InputError(f"{name} is no option{did_you_mean(name, [*GROUPS, *OPTIONS])}")


def check_launcher(hydra: HydraConf) -> None:
    """Raises InputError for a launcher that a single run would silently not use."""
    launcher = hydra.runtime.choices["hydra/launcher"]
    if hydra.mode is RunMode.RUN and launcher != "basic":
        raise InputError(f"hydra/launcher={launcher} is for sweeps: add -m, even for one run")


def draw_seed(cfg: DictConfig) -> None:
    """`seed=null` draws a seed, so that the record can name it."""
    if cfg.seed is None:
        cfg.seed = random.SystemRandom().randrange(2**31)


# --- the configuration as plain values -------------------------------------------------------


def configure(cfg: DictConfig, choices: Mapping[str, Any]) -> Configuration:
    """The configuration of one experiment; `choices` are Hydra's `runtime.choices`."""
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
        if name not in changed and name.partition(".")[0] in GROUPS and not is_interpolated(value)
    }
    names = {str(group): choice for group, choice in choices.items()}
    return Configuration(names, settings, changed, component_values)


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
    return tuple((group, str(choice)) for group, choice in sorted(choices.items()) if "@" in group)


def nested_overrides(choices: Mapping[str, Any]) -> Sequence[str]:
    """The overrides that make the nested components, where they differ from the outer YAMLs."""
    return _nested_overrides(_roots(choices), _nested(choices))


@lru_cache(maxsize=1024)
def _nested_overrides(roots: Choices, nested: Choices) -> tuple[str, ...]:
    wanted, words = dict(nested), [f"{group}={name}" for group, name in roots]
    start = len(words)
    while wanted:
        composed = compose_today(words, return_hydra_config=True)
        made = dict(_nested(composed.hydra.runtime.choices))
        missing = [
            *(f"~{group}" for group in made if group not in wanted),
            *(
                f"{group}={wanted[group]}"
                for group in made
                if made[group] != wanted.get(group, made[group])
            ),
            *(f"+{group}={name}" for group, name in nested if group not in made),
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
    """Reads the components' YAMLs anew when they are needed next."""
    _nested_overrides.cache_clear()
    _flat_defaults.cache_clear()


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

    `choices` are the names of the chosen options; `answers` is the cache of API replies.
    """

    cfg: DictConfig
    choices: Mapping[str, Any]
    answers: Any = None

    @classmethod
    def of(cls, cfg: DictConfig, hydra: HydraConf, output_dir: Path) -> ExperimentBuilder:
        """The builder of a running application's configuration."""
        answers = DiskMap(output_dir / ".cache" / "answers.sqlite")
        return cls(cfg, dict(hydra.runtime.choices), answers)

    @property
    def tuned_values(self) -> list[int]:
        """The values from which k is chosen; empty if k is given or no profile is read."""
        check(self.cfg)
        given = tuple(self.cfg.k_values) != OPTIONS["k_values"].default
        if given and self.cfg.k not in (0, TUNE):  # 0: the baseline of a sweep over k=0,tune
            raise InputError(f"k_values has no effect without k={TUNE}")
        tuned = self.cfg.k == TUNE and retriever_class(self.cfg).uses_profile
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
        defaults = {group: str(GROUPS[group].default) for group in PERSONAL_GROUPS}
        made = compose_today([f"{group}={name}" for group, name in defaults.items()])
        with open_dict(cfg):
            cfg.update({group: made[group] for group in defaults})
        return self._build(cfg, choices | defaults)

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
    try:
        return launch(builder, output_dir, cfg.rerun, sweep, on_start, with_baseline)
    finally:
        ddp.dismiss(output_dir)


def build_experiment(cfg: DictConfig, answers: Any = None) -> Experiment:
    """The experiment as objects; components that its mode does not need are not built.

    Values and files are checked before a model's libraries are imported, which takes seconds.
    """
    check(cfg)
    mode, task = cfg.mode, cast(Task, build(cfg, "task"))
    _check_folders(cfg)
    _check_passages(cfg)
    cache_dir = Path(cfg.output_dir).expanduser() / ".cache"
    data = _data_options(cfg, cache_dir)
    retriever = retriever_class(cfg)
    others = personal_groups(cfg)
    usage = Usage.of(mode, retriever.uses_profile, cfg.k, retriever.learns, others)
    learns = usage.reads and mode != FEEDBACK and not retriever.is_bound
    check_sources(task, data.data_dir, data.split, stages.parts_read(mode, data, learns))
    prompts, runs_model = usage.makes_prompts, mode in ANSWERING
    settings = _model_settings(cfg, {} if answers is None else answers, task.labels)
    model = build(cfg, "model", settings=settings) if prompts else None
    return Experiment(
        mode=mode,
        task=task,
        data=data,
        retrieval=Retrieval(
            _retriever(cfg, cache_dir), cfg.k, cfg.skip, cfg.document_dates, cfg.rank_processes
        ),
        augmentation=build(cfg, "augmentation") if prompts else None,
        model=model,
        max_length=cfg.max_length,
        trainer=_trainer(cfg) if runs_model else None,
        logger=recipe(cfg, "logger") if runs_model else None,
        from_checkpoint=bool(training_settings(str(OmegaConf.select(cfg, "model.name")))),
        reader=_reader(cfg, settings) if usage.reads else None,
        adapter=build(cfg, "adapter") if runs_model else None,
        personal_groups=others,
    )


def _reader(cfg: DictConfig, settings: ModelSettings) -> Reader:
    """The model that gives feedback: the run's, unless `reader` names another one."""
    own = cfg.copy()
    with open_dict(own):
        if cfg.reader.model is not None:
            own.model = compose_today([f"model={cfg.reader.model}"]).model
        if cfg.reader.name is not None:
            own.model.name = cfg.reader.name
    content = cast(dict[str, Any], OmegaConf.to_container(own, resolve=True))
    trainer = _trainer(own)
    return Reader(
        model=build(own, "model", settings=settings),
        augmentation=build(own, "augmentation"),
        max_length=cfg.max_length,
        trainer=trainer,
        feedback=FeedbackOptions(**cast(dict[str, Any], OmegaConf.to_container(cfg.feedback))),
        settings={
            "model": deciding_options("model", content["model"]),
            "augmentation": deciding_options("augmentation", content["augmentation"]),
            **{name: content[name] for name in ("max_length", "max_new_tokens")},
            "precision": trainer.precision,
        },
        checkpoint=training_settings(str(own.model.get("name"))),
    )


def _check_folders(cfg: DictConfig) -> None:
    """Raises InputError for a name that looks like a folder, and is none."""
    without_prompts = cfg.mode in WITHOUT_PROMPTS
    used = {
        "model": cfg.mode != "rank",
        "retriever": without_prompts or cfg.k != NO_PROFILE,
        "reader": True,
    }
    content = {
        group: cast(dict[str, Any], OmegaConf.to_container(cfg[group], resolve=False))
        for group in used
        if used[group]
    }
    for name, value in flatten(content):
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
    profile = ProfileOptions(**cast(dict[str, Any], OmegaConf.to_container(cfg.profile)))
    return DataOptions(
        data_dir=cfg.data_dir,
        split=cfg.split,
        part=cfg.part,
        limit=cfg.limit,
        view=PartView(profile, cfg.fixes, cfg.seed or 0, limit_sample=cfg.limit_sample),
        selection=cfg.selection,
        cache_dir=cache_dir,
    )


def _retriever(cfg: DictConfig, cache_dir: Path) -> Retriever:
    retriever: Retriever = build(cfg, "retriever")
    retriever.use_vector_store(VectorCache(cache_dir / "vectors"))
    return retriever


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


def retriever_class(cfg: DictConfig) -> type[Retriever]:
    """The class of the chosen retriever, without building it."""
    return cast(type[Retriever], recipe(cfg, "retriever").func)


def personal_groups(cfg: DictConfig) -> frozenset[str]:
    """The groups whose chosen component reads the profile, besides the retriever."""
    return frozenset(g for g in PERSONAL_GROUPS if class_value(cfg, g, "uses_profile"))


def class_value(cfg: DictConfig, group: str, name: str) -> Any:
    """A value of the chosen component's class.

    A literal in the class's own body is read from the source, because to import a model's
    libraries takes seconds.
    """
    module, _, class_name = cfg[group]._target_.rpartition(".")
    with suppress(ModuleNotFoundError):  # of a package: `recipe` explains it
        spec = importlib.util.find_spec(module)
        source = Path(spec.origin).read_bytes() if spec and spec.origin else b""
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.ClassDef) and node.name == class_name:
                for line in node.body:
                    if isinstance(line, ast.Assign) and ast.unparse(line.targets[0]) == name:
                        return ast.literal_eval(line.value)
    return getattr(recipe(cfg, group).func, name)


def build(cfg: DictConfig, group: str, **given: Any) -> Any:
    """The component that a group's YAML describes, with objects that only Python can give."""
    return recipe(cfg, group)(**given)


def recipe(cfg: DictConfig, group: str) -> partial[Any]:
    """A partial that builds a component; options that the component does not have are refused."""
    try:
        made: partial[Any] = instantiate(cfg[group], _partial_=True, _convert_="all")
    except InstantiationException as error:
        raise _explained(error, group) from error
    if group == "model":
        made.keywords.pop("display_name", None)  # only reports read it
    parameters = inspect.signature(made.func).parameters
    takes_any = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values())
    for name in made.keywords:
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

"""Builds an experiment from Hydra's configuration; `components.build` makes its parts."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from hydra.conf import HydraConf
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from lamp_exp import options
from lamp_exp.artefacts import Adapter, LanguageModel, Router
from lamp_exp.components import (
    build,
    class_value,
    general_groups,
    personal_groups,
    recipe,
    usage_of,
)
from lamp_exp.composition import compose_config, configure
from lamp_exp.config_checks import (
    check,
    check_folders,
    check_generation_options,
    check_hub,
    check_passages,
    refuse_wrong_folders,
)
from lamp_exp.contracts import DenseRetriever, Model, Retriever, Summary, Task, WrittenSummary
from lamp_exp.data import check_sources
from lamp_exp.errors import InputError
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
from lamp_exp.hydra_messages import explain
from lamp_exp.options import (
    ANSWERING,
    FEEDBACK,
    GROUPS,
    OPTIONS,
    PERSONAL_GROUPS,
    QUESTIONS,
    TUNE,
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
        made = compose_config([f"{group}={name}" for group, name in defaults.items()])
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
        named = self.cfg.router.candidates
        if not OmegaConf.is_dict(named):
            raise InputError(
                f"router.candidates={options.as_text(named)} must map names to options; to choose "
                "a file of candidates, write router/candidates=fixed"
            )
        given = cast(dict[str, Any], OmegaConf.to_container(named, resolve=True))
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
            cfg = compose_config(list(words), return_hydra_config=True)
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
        refuse_wrong_folders(dict(flatten(content, "router.")))
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


def experiment_from_settings(settings: Mapping[str, Any]) -> Experiment:
    """The experiment of a resolved configuration, for processes that share another's work."""
    return build_experiment(OmegaConf.create(dict(settings)))


def check_quickly(cfg: DictConfig) -> tuple[str, Task, DataOptions, Usage]:
    """Checks values and files before a model's libraries are imported, which takes seconds.

    What compares profiles (`profile.neighbours_by`) is built here, with the libraries it needs.
    Returns the mode, the task, the options of the data and what is used; raises InputError.
    """
    check(cfg)
    mode, task = cfg.mode, cast(Task, build(cfg, "task"))
    check_folders(cfg)
    check_passages(cfg)
    check_generation_options(cfg)
    data = _data_options(cfg, Path(cfg.output_dir).expanduser() / ".cache")
    usage = usage_of(cfg)
    is_bound = class_value(cfg, "retriever", "is_bound")
    from_train = (usage.reads and mode != FEEDBACK and not is_bound) or (
        "adapter" in usage.others and class_value(cfg, "adapter", "learns_from_train")
    )
    check_sources(task, data.data_dir, data.split, stages.parts_read(mode, data, from_train))
    return mode, task, data, usage


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


# --- the parts of an experiment ---------------------------------------------------------------


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
        return cast(DictConfig, compose_config([f"model={name}"]).model)
    except HydraException as error:
        raise InputError(f"{option}={name} is no option of model") from error

"""All options of an experiment, in one table.

Everything that must know about an option reads it here: the configuration's schema and defaults,
the checks of values, the identity and the name of a run, which jobs of a sweep are the same run,
the columns and filters of reports, and the lists of options (`python -m lamp_exp options` and the
table of conf/README.md). To add an option, add it here and pass its value on in
`config.build_experiment` (a field of `ProfileOptions` or `TrainingOptions` is passed on already).

Options of a component (`retriever.k1`) are declared by the component's own YAML; `GROUPS` says
what is common to a group.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

import yaml

from lamp_exp.errors import InputError

TUNE = "tune"  # as the value of k: choose it on dev from k_values
LARGEST_SEED = 2**32 - 1
ANSWERING = ("finetune", "zeroshot")  # the modes in which a model writes answers
FEEDBACK = "feedback"  # the mode in which a reader rewards single items
SUMMARIES = "summaries"  # the mode that only makes summaries of profiles
PERSONAL_GROUPS = ("summary", "adapter")  # of which the baseline has none; see `Usage.others`
RANKING = ("rank", FEEDBACK)  # the modes that rank items and make no prompts of k items
WITHOUT_PROMPTS = (*RANKING, SUMMARIES)  # the modes that make no prompts of k items
# The order of words in a run's name, and of columns in reports; there, others follow.
NAME_ORDER = (
    "task", "split", "part", "mode", "retriever", "k", "skip", "augmentation", "summary", "adapter",
    "model",
)  # fmt: skip
KINDS = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}  # in words
# The role of an option in reports, if runs differ in it:
QUESTIONS = "questions"  # they answered other questions, and are not compared
METHOD = "method"  # they are methods, which tables compare; always a column
VARIANT = "variant"  # they are methods, too; a column only where runs differ in it
SETTING = "setting"  # they are in different tables, or it is a column
DETAIL = "detail"  # they may be in one table, which says so below


@dataclass(frozen=True, slots=True)
class Usage:
    """What an experiment does, which decides the options that matter to it.

    `retrieves` says that the items of profiles are ranked, `reads` that a reader gives feedback.
    `others` are the other groups in use, of PERSONAL_GROUPS. Without any of these it is the
    baseline. `general` are those of them whose component reads no profile: it is alike for all
    users. `writes` says that a model writes summaries, `routes` that a router chooses among the
    answers of several runs.
    """

    mode: str
    retrieves: bool
    reads: bool = False
    others: frozenset[str] = frozenset()
    writes: bool = False
    routes: bool = False
    general: frozenset[str] = frozenset()

    @classmethod
    def of(
        cls,
        mode: str,
        uses_profile: bool,
        k: int | str | None,
        learns: bool = False,
        others: Collection[str] = (),
        writes: bool = False,
        general: Collection[str] = (),
    ) -> Usage:
        """The usage of an experiment whose retriever reads profiles, or learns; k may be `tune`.

        `others` are the groups of PERSONAL_GROUPS that are in use, `general` those of them whose
        chosen component reads no profile.
        """
        retrieves = uses_profile and (mode in RANKING or (mode != SUMMARIES and bool(k)))
        used = frozenset() if mode in RANKING else frozenset(others)
        used &= {"summary"} if mode == SUMMARIES else used
        used -= frozenset() if mode in ANSWERING else {"adapter"}
        reads = retrieves and (learns or mode == FEEDBACK)
        alike = used & frozenset(general)
        return cls(mode, retrieves, reads, used, writes and "summary" in used, general=alike)

    @classmethod
    def baseline(cls, mode: str) -> Usage:
        """The usage without any personal part."""
        return cls(mode, retrieves=False)

    @classmethod
    def full(cls, mode: str) -> Usage:
        """The usage with every personal part."""
        every = cls.of(mode, True, TUNE, others=PERSONAL_GROUPS, writes=True)
        return replace(every, routes=True)

    @property
    def personal(self) -> bool:
        """Whether there is any part that the baseline lacks."""
        return self.retrieves or bool(self.others)

    @property
    def reads_profile(self) -> bool:
        """Whether any part reads the user's profile."""
        return self.retrieves or bool(self.others - self.general)

    @property
    def trains(self) -> bool:
        return self.mode == "finetune"

    @property
    def answers(self) -> bool:
        return self.mode in ANSWERING

    @property
    def makes_prompts(self) -> bool:
        return self.mode not in WITHOUT_PROMPTS


Condition = Callable[[Usage], bool]


def always(usage: Usage) -> bool:
    """Options that matter to every experiment."""
    return True


def when_personal(usage: Usage) -> bool:
    """Options that matter only if the profile is read."""
    return usage.reads_profile


def when_prompting(usage: Usage) -> bool:
    """Options that matter only if prompts are made."""
    return usage.makes_prompts


def when_retrieving(usage: Usage) -> bool:
    """Options that matter only if the items of profiles are ranked."""
    return usage.retrieves


def when_routing(usage: Usage) -> bool:
    """Options that matter only if a router chooses among runs."""
    return usage.routes


def when_prompting_with_items(usage: Usage) -> bool:
    """Options that matter only if prompts show k items of the profile."""
    return usage.makes_prompts and usage.retrieves


def when_reading(usage: Usage) -> bool:
    """Options that matter if a model reads prompts: to answer, or to give feedback."""
    return usage.makes_prompts or usage.reads


def when_reading_or_writing(usage: Usage) -> bool:
    """Options that matter if a model reads prompts, or profiles to summarise them."""
    return when_reading(usage) or usage.writes


def when_summarising(usage: Usage) -> bool:
    """Options that matter only if profiles are summarised."""
    return "summary" in usage.others


def when_reading_items(usage: Usage) -> bool:
    """Options that matter if a model reads items of the profile."""
    return (usage.makes_prompts and usage.retrieves) or usage.reads


def when_answering_or_feedback(usage: Usage) -> bool:
    """Options that matter if a model runs: to answer, or to give feedback."""
    return usage.answers or usage.reads


def when_running(usage: Usage) -> bool:
    """Options that matter if a model runs, for whatever purpose."""
    return when_answering_or_feedback(usage) or usage.writes


def when_feedback(usage: Usage) -> bool:
    """Options that matter only if a reader gives feedback."""
    return usage.reads


def when_answering(usage: Usage) -> bool:
    """Options that matter only if a model answers."""
    return usage.answers


def when_adapting(usage: Usage) -> bool:
    """Options that matter only if the model is adapted to each user."""
    return usage.answers and "adapter" in usage.others


def when_training(usage: Usage) -> bool:
    """Options that matter only if a model is fine-tuned."""
    return usage.trains


def when_training_any(usage: Usage) -> bool:
    """Options that matter if a model is fine-tuned: the one that answers, or one for feedback."""
    return usage.trains or usage.reads


@dataclass(frozen=True, slots=True)
class Option:
    """One option.

    `kind` is the type of its value; `nullable` allows null. `choices` are all allowed values,
    `minimum` and `maximum` the allowed range (`above` excludes the minimum itself).
    `changes_numbers` says whether the results depend on it, `applies` when it matters at all.
    `needs` names an option without which, at null, it would have no effect; or that option's value
    (`profile.pool=neighbours`). With `component`, its value is a component of that group.
    `run_name` is its word in a run's name ("k{}"); unless `always_named`, the name has it only
    where it differs from the default. `column` is its name in reports, if that is another; `role`
    says what it is there.
    """

    name: str
    default: Any
    kind: type
    help: str
    nullable: bool = False
    choices: tuple[Any, ...] = ()
    minimum: float | None = None
    maximum: float | None = None
    above: bool = False
    changes_numbers: bool = True
    applies: Condition = always
    needs: str | None = None
    component: str | None = None
    run_name: str | None = None
    always_named: bool = False
    column: str | None = None
    role: str = SETTING

    @property
    def label(self) -> str:
        """The option's name in reports."""
        return self.column or self.name

    def check(self, value: Any) -> None:
        """Raises InputError for a value that is not allowed."""
        if value is None and self.nullable:
            return
        if self.choices:
            if value not in self.choices:
                allowed = ", ".join(as_text(choice) for choice in self.choices)
                raise InputError(f"{self.name}={as_text(value)} must be one of {allowed}")
            return
        if self.kind in (int, float):
            kinds = (int,) if self.kind is int else (int, float)
            if isinstance(value, bool) or not isinstance(value, kinds):
                raise InputError(f"{self.name}={as_text(value)} must be {KINDS[self.kind]}")
        if isinstance(value, int | float) and not isinstance(value, bool):
            self._check_range(value)

    def _check_range(self, value: float) -> None:
        if not math.isfinite(value):
            raise InputError(f"{self.name}={value} must be a finite number")
        if self.minimum is not None and (
            value <= self.minimum if self.above else value < self.minimum
        ):
            bound = "above" if self.above else "at least"
            raise InputError(f"{self.name}={value} must be {bound} {self.minimum:g}")
        if self.maximum is not None and value > self.maximum:
            raise InputError(f"{self.name}={value} must be at most {self.maximum}")


@dataclass(frozen=True, slots=True)
class Group:
    """A group of components, of which one option is chosen: `retriever=bm25`.

    `runtime` are options of its components that say where and how fast, and change no number.
    `by_values` groups are not named in the identity: only their differing options are. `run_name`
    is its word in a run's name.
    """

    name: str
    default: str | None
    help: str
    changes_numbers: bool = True
    applies: Condition = always
    runtime: frozenset[str] = frozenset()
    by_values: bool = False
    role: str = SETTING
    run_name: str = "{}"


GROUPS: Mapping[str, Group] = {
    group.name: group
    for group in (
        Group("task", "lamp4", "the task of LaMP", role=METHOD),
        Group(
            "retriever", "bm25",
            "how the items of a profile are ranked; `recency` needs the dates of the time split",
            applies=when_retrieving, runtime=frozenset({"device", "batch_tokens"}),
            role=METHOD,
        ),
        Group(
            "augmentation", "ipa",
            "ipa: one prompt with all items; fid: one passage per item, fused by the decoder",
            applies=when_reading_items, role=METHOD,
        ),
        Group(
            "summary", "none",
            "a text on the user before the items; statistics: counted; llm: written by a model",
            applies=when_summarising, runtime=frozenset({"allow_api"}), role=VARIANT,
            run_name="summary_{}",
        ),
        Group(
            "model", "flan_t5_base", "the language model that answers",
            applies=when_reading_or_writing,
            runtime=frozenset({
                "base_url", "key_variable", "concurrency", "retries", "timeout", "speed",
                "display_name",
            }),
        ),
        Group(
            "adapter", "none",
            "how the model is adapted to each user; user_lora, oppu: weights learned on profiles; "
            "user_vector: the profile as vectors; soft_prompt: alike for all users",
            applies=when_adapting, runtime=frozenset({"keep", "device", "batch_tokens"}),
            role=METHOD,
        ),
        Group(
            "trainer", "default",
            "how a model is run; its options are those of Lightning's Trainer, but for what a run "
            "decides itself: `trainer.max_epochs=3`, `trainer.precision=bf16-mixed`",
            applies=when_running, by_values=True,
            runtime=frozenset({
                "accelerator", "strategy", "devices", "num_nodes", "enable_progress_bar",
                "enable_model_summary", "log_every_n_steps",
            }),
        ),
        Group(
            "router", "none",
            "chooses for each question among the answers of several runs, `router.candidates`",
            applies=when_routing, runtime=frozenset({"device", "batch_tokens"}), role=VARIANT,
        ),
        Group("logger", "csv", "csv, or wandb as well", changes_numbers=False),
        Group("experiment", None, "named settings from `conf/experiment/`", changes_numbers=False),
    )
}  # fmt: skip
ANSWERING_TRAINER_OPTIONS = frozenset({"trainer.precision"})  # the others matter in training only
SHARING_TRAINER_OPTIONS = frozenset({"trainer.strategy", "trainer.devices", "trainer.num_nodes"})

_OPTIONS = (
    Option("split", "user", str, "user: new users in dev and test; time: the same users, later",
           choices=("user", "time"), run_name="{}", always_named=True, role=QUESTIONS),
    Option("part", "dev", str, "the part that is answered and scored",
           choices=("train", "dev", "test"), run_name="{}", always_named=True, role=QUESTIONS),
    Option("mode", "finetune", str,
           "how far a run goes; prompts: only make them, rank: only retrieve, feedback: reward "
           "single items by what a reader makes of them, summaries: only make and show them",
           choices=("finetune", "zeroshot", "prompts", "rank", FEEDBACK, SUMMARIES), run_name="{}",
           always_named=True),
    Option("k", 4, object, "items per question; 0 is the run without a profile; "
           "tune: the best of k_values on dev", minimum=0, applies=when_prompting,
           run_name="k{}", always_named=True, role=METHOD),
    Option("k_values", (1, 2, 4, 8, 16), list, "the values from which k=tune chooses",
           minimum=1, applies=when_prompting_with_items, role=DETAIL),
    Option("skip", 0, int, "pass over so many of the best items before the k that are used",
           minimum=0, applies=when_prompting_with_items, run_name="skip{}"),
    Option("max_length", 512, int, "tokens of a prompt (ipa) or of each passage (fid)",
           minimum=1, applies=when_reading, role=DETAIL),
    Option("max_new_tokens", 128, int, "tokens of an answer", minimum=1,
           applies=when_answering_or_feedback, role=DETAIL),
    Option("predict_batch_size", 16, int, "questions answered together", minimum=1,
           changes_numbers=False),
    Option("seed", 0, int, "null draws one and records it", nullable=True, minimum=0,
           maximum=LARGEST_SEED, run_name="s{}", always_named=True, role=DETAIL),
    Option("data_dir", None, str, "where the official files are; null: the made-up sample",
           nullable=True, changes_numbers=False),
    Option("output_dir", "outputs", str, "where runs are written", changes_numbers=False),
    Option("limit", None, int, "use only the first N questions of each part", nullable=True,
           minimum=1, role=QUESTIONS),
    Option("limit_sample", "first", str, "which questions limit takes: the first of the file, or "
           "some drawn by seed", choices=("first", "random"), needs="limit", role=QUESTIONS),
    Option("rank_processes", None, int, "processes that share the ranking of a large part; null: "
           "up to one per core and 8", nullable=True, minimum=1, changes_numbers=False),
    Option("rerun", False, object, "true: repeat finished runs; stale: those of changed code",
           choices=(False, True, "stale"), changes_numbers=False),
    Option("dry_run", False, object, "only list what would be run, and estimate its time from "
           "finished runs; measure: try a few questions where there are none",
           choices=(False, True, "measure"), changes_numbers=False),
    Option("fail_fast", False, bool, "in a sweep, start no more jobs after one has failed",
           changes_numbers=False),
    Option("fold", None, int, "with part=train: ask that half of train's users, and let everything "
           "learn from the other half (router.folds=2 makes such runs)", nullable=True,
           choices=(0, 1), role=QUESTIONS),
    Option("document_dates", False, bool, "retrievers also read each item's date",
           applies=when_retrieving),
    Option("fixes", "none", str, "declared: repair the known defects of the benchmark's files",
           choices=("none", "declared"), role=QUESTIONS),
    Option("selection", "dev", str, "what the best epoch is chosen on: dev, or a tenth of train's "
           "users (holdout)", choices=("dev", "holdout"), applies=when_training),
    Option("profile.max_items", None, int, "keep at most so many items of each profile",
           nullable=True, minimum=0, applies=when_personal, column="max_items"),
    Option("profile.keep", "newest", str, "which items max_items keeps",
           choices=("newest", "first"), applies=when_personal, column="keep",
           needs="profile.max_items"),
    Option("profile.before", None, str, "keep only items dated before that day", nullable=True,
           applies=when_personal, column="before"),
    Option("profile.control", "none", str, "shuffled_user: the profile of another user",
           choices=("none", "shuffled_user"), applies=when_personal, column="control"),
    Option("profile.pool", "own", str, "whose items may be retrieved; all_users: of all users of "
           "the part, drawn at random (for retriever=random); neighbours: also of the users with "
           "the most similar profiles", choices=("own", "all_users", "neighbours"),
           applies=when_personal, column="pool"),
    Option("profile.neighbours", 5, int, "how many users are neighbours", minimum=1,
           applies=when_personal, column="neighbours", needs="profile.pool=neighbours"),
    Option("profile.neighbours_by", None, object, "the encoder that compares profiles, as a dense "
           "retriever: `retriever@profile.neighbours_by=contriever`", nullable=True,
           applies=when_personal, column="neighbours_by", needs="profile.pool=neighbours",
           component="retriever"),
    Option("profile.own_items", "keep", str, "remove: drop items that are the question itself",
           choices=("keep", "remove"), applies=when_personal, column="own_items"),
    Option("feedback.items", 16, int, "the best items of each question that a reader rewards, one "
           "by one", minimum=1, applies=when_feedback),
    Option("feedback.reward", "metric", str, "metric: of the reader's answer; likelihood: of the "
           "gold", choices=("metric", "likelihood"), applies=when_feedback),
    Option("feedback.folds", 1, int, "2: a reader is fine-tuned on each half of train's users, and "
           "rewards items for the other half", choices=(1, 2), applies=when_feedback),
    Option("reader.model", None, str, "the model that gives feedback; null: the run's, as it is "
           "before fine-tuning", nullable=True, applies=when_feedback),
    Option("reader.name", None, str, "the weights of the reader, such as RUN/checkpoint; null: "
           "those of its YAML", nullable=True, applies=when_feedback),
    Option("training.lr", 5e-5, float, "learning rate", minimum=0, above=True,
           applies=when_training_any),
    Option("training.weight_decay", 1e-4, float, "of AdamW", minimum=0, applies=when_training_any),
    Option("training.warmup", 0.05, float, "share of the optimiser steps", minimum=0,
           maximum=1, applies=when_training_any),
    Option("training.batch_size", 16, int, "examples per step, over all devices", minimum=1,
           applies=when_training_any),
    Option("training.patience", None, int, "stop after so many epochs without a better score",
           nullable=True, minimum=1, applies=when_training_any),
    Option("training.gradient_checkpointing", False, bool, "less memory, more time",
           changes_numbers=False, applies=when_training_any),
    Option("training.lora_rank", None, int, "train adapters of that rank instead of all weights",
           nullable=True, minimum=1, applies=when_training_any),
    Option("training.lora_alpha", 32, int, "scale of the adapters", minimum=1,
           applies=when_training_any, needs="training.lora_rank"),
    Option("training.lora_dropout", 0.05, float, "dropout of the adapters", minimum=0,
           maximum=1, applies=when_training_any, needs="training.lora_rank"),
)  # fmt: skip
COMPONENT_OPTIONS = (  # options of components whose range every component of the group shares
    Option("trainer.strategy", "auto", str, "how several processes share the work", nullable=True,
           choices=("auto", "ddp", "ddp_find_unused_parameters_true")),
    Option("trainer.max_epochs", None, int, "epochs; null: the paper's number", nullable=True,
           minimum=1),
    Option("trainer.accumulate_grad_batches", 1, int, "batches of an optimiser step", minimum=1),
    Option("trainer.gradient_clip_val", 1.0, float, "norm at which gradients are clipped",
           nullable=True, minimum=0, above=True),
    Option("trainer.limit_train_batches", None, object, "batches of an epoch, or their share",
           nullable=True, minimum=0, above=True),
    Option("summary.max_tokens", None, int, "the most tokens of a summary in a prompt",
           nullable=True, minimum=1),
    Option("summary.items", None, str, "which items a summary is written from", nullable=True,
           choices=("newest", "sampled")),
    Option("summary.max_items", None, int, "items that a summary is written from, at most",
           nullable=True, minimum=1),
    Option("summary.item_tokens", None, int, "tokens of an item's text, at most", nullable=True,
           minimum=1),
    Option("summary.input_tokens", None, int, "tokens that the writer reads, at most",
           nullable=True, minimum=1),
    Option("summary.max_new_tokens", None, int, "tokens that the writer writes, at most",
           nullable=True, minimum=1),
    Option("summary.allow_api", None, bool, "whether licensed texts may be sent to an API",
           nullable=True, choices=(False, True)),
    Option("adapter.rank", None, int, "of the two matrices", nullable=True, minimum=1),
    Option("adapter.alpha", None, float, "scale: alpha / rank", nullable=True, minimum=0,
           above=True),
    Option("adapter.dropout", None, float, "of what an adapter reads", nullable=True, minimum=0,
           maximum=1),
    Option("adapter.epochs", None, int, "over the items of a profile", nullable=True, minimum=1),
    Option("adapter.lr", None, float, "learning rate", nullable=True, minimum=0, above=True),
    Option("adapter.batch_size", None, int, "items per step", nullable=True, minimum=1),
    Option("adapter.warmup", None, float, "share of the steps", nullable=True, minimum=0,
           maximum=1),
    Option("adapter.weight_decay", None, float, "of AdamW", nullable=True, minimum=0),
    Option("adapter.clip", None, float, "norm at which gradients are clipped", nullable=True,
           minimum=0, above=True),
    Option("adapter.soft_tokens", None, int, "in front of each prompt", nullable=True, minimum=1),
    Option("adapter.sharpness", None, float, "of the attention over items", nullable=True,
           minimum=0, above=True),
    Option("adapter.learn_sharpness", None, bool, "whether it learns along", nullable=True,
           choices=(True, False)),
    Option("adapter.subsets", None, int, "random parts of each history, in an epoch",
           nullable=True, minimum=0),
    Option("adapter.dropped", None, float, "the most of a history that a random part lacks",
           nullable=True, minimum=0, maximum=1),
    Option("adapter.train_reader", None, bool, "whether the model's own weights learn along",
           nullable=True, choices=(True, False)),
    Option("adapter.k", None, int, "earlier items that an item is shown with", nullable=True,
           minimum=0),
    Option("adapter.min_items", None, int, "users with fewer have no adapter", nullable=True,
           minimum=1),
    Option("adapter.keep", None, bool, "keep adapters on the disk", nullable=True,
           choices=(True, False)),
    Option("model.decoding", None, str, "how answers are decoded", nullable=True,
           choices=("free", "labels", "likelihood")),
    Option("model.strip_reasoning", None, object, "remove reasoning from answers: what the server "
           "or the chat template marks (auto), or always", nullable=True,
           choices=("auto", True, False)),
    Option("model.concurrency", None, int, "requests at a time", nullable=True, minimum=1),
    Option("model.retries", None, int, "of a failed request", nullable=True, minimum=0),
    Option("model.timeout", None, float, "seconds for one answer", nullable=True, minimum=0,
           above=True),
)  # fmt: skip
OPTIONS: Mapping[str, Option] = {option.name: option for option in _OPTIONS}
FIXED_TRAINER_OPTIONS = {  # of Lightning's Trainer: what a run decides instead of them
    name: reason
    for reason, names in {
        "training takes whole epochs: use trainer.max_epochs or training.patience":
            "max_steps min_steps min_epochs max_time",
        "each epoch is validated on all questions: use limit":
            "limit_val_batches val_check_interval check_val_every_n_epoch num_sanity_val_steps "
            "overfit_batches",
        "every question is answered: use limit": "limit_predict_batches",
        "for a quick try, use trainer=debug limit=4": "fast_dev_run",
        "use logger=csv or logger=wandb": "logger",
        "a run has its own files, callbacks and plugins":
            "enable_checkpointing callbacks plugins default_root_dir model_registry barebones",
        "a run divides its questions itself":
            "use_distributed_sampler reload_dataloaders_every_n_epochs",
        "nothing here would use it": "limit_test_batches sync_batchnorm enable_autolog_hparams",
    }.items()
    for name in names.split()
}  # fmt: skip


def check_value(name: str, value: Any) -> None:
    """Raises InputError if the option of that name does not allow `value`."""
    option = OPTIONS[name]
    if name == "k":
        if value == TUNE:
            return
        if type(value) is not int:
            raise InputError(f"k={value} must be a number of profile items, or {TUNE}")
    if name == "k_values":
        values = list(value)
        if not values or min(values) < 1 or len(set(values)) < len(values):
            raise InputError(f"k_values={values} must be different numbers from 1 on")
        return
    option.check(value)


def changes_numbers(name: str, usage: Usage) -> bool:
    """Whether the results of an experiment of that usage depend on the option.

    `name` is an option's dotted name, or that of an option of a component (`retriever.k1`).
    """
    if name in OPTIONS:
        option = OPTIONS[name]
        return option.changes_numbers and option.applies(usage)
    group, _, inner = name.lstrip("~").partition(".")
    for option in OPTIONS.values():
        if option.component and name.startswith(f"{option.name}."):
            last = name.rpartition(".")[2]
            return option.applies(usage) and last not in GROUPS[option.component].runtime
    if group not in GROUPS:
        return True  # an option of the user's own (+name=value)
    found = GROUPS[group]
    if not (found.changes_numbers and found.applies(usage)):
        return False
    trains = when_training_any(usage)
    if group == "trainer" and not trains and name not in ANSWERING_TRAINER_OPTIONS:
        return False
    return (
        inner.rpartition(".")[2] not in found.runtime and inner.split(".")[0] not in found.runtime
    )


def only_personal(option: Option, mode: str) -> bool:
    """Whether the option matters in that mode, but not to the baseline."""
    return option.applies(Usage.full(mode)) and not option.applies(Usage.baseline(mode))


def value_at(settings: Mapping[str, Any], name: str, missing: Any = None) -> Any:
    """The value of a dotted name in nested settings; `missing` if there is none."""
    value: Any = settings
    for part in name.split("."):
        if not isinstance(value, Mapping) or part not in value:
            return missing
        value = value[part]
    return value


def parse_value(text: str) -> Any:
    """A value as it is written on the command line: `none` and `null` are None, `1e-4` a number."""
    if text.lower() in ("none", "null"):
        return None
    try:
        return float(text) if _is_number(text) else yaml.safe_load(text)
    except yaml.YAMLError:
        return text


def same_value(one: Any, other: Any) -> bool:
    """Whether two option values are equal: numbers by size, None and "none" alike."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, int | float) and isinstance(other, int | float):
        return float(one) == float(other)
    empty = (None, "none")
    return (one in empty and other in empty) or str(one) == str(other)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:  # the caller reads it as another kind of value
        return False
    return True


def markdown_table() -> str:
    """The table of conf/README.md: each group and option with default, other values, meaning."""
    rows = ["| option | default, other values | meaning |", "|---|---|---|"]
    for group in GROUPS.values():
        rows.append(f"| `{group.name}` | `{as_text(group.default)}`, … | {group.help} |")
    for option in _OPTIONS:
        others = [choice for choice in option.choices if choice != option.default]
        values = ", ".join(f"`{as_text(value)}`" for value in (option.default, *others))
        rows.append(f"| `{option.name}` | {values} | {option.help} |")
    return "\n".join(rows)


def as_text(value: Any) -> str:
    """A value as it is written on the command line."""
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(as_text, value))}]"
    return str(value)

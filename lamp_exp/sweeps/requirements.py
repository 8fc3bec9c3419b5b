"""What the jobs of a sweep require: artefacts, and runs whose answers or weights they use."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from omegaconf import OmegaConf

from lamp_exp import components, composition
from lamp_exp.artefacts import Artefact
from lamp_exp.config import ExperimentBuilder
from lamp_exp.errors import InputError
from lamp_exp.experiment.builder import SingleRun
from lamp_exp.experiment.learning import needed_artefacts, store_of
from lamp_exp.experiment.parts import Parts
from lamp_exp.experiment.routing import RoutedRun
from lamp_exp.experiment.run import own_folder
from lamp_exp.experiment.stages import read_parts
from lamp_exp.options import FEEDBACK, GROUPS, TUNE
from lamp_exp.results.folder import RunFolder
from lamp_exp.storage.artefacts import BEGUN, ArtefactStore
from lamp_exp.sweeps.plan import JobConfig

THERE, TO_MAKE, UNKNOWN = "there", "to make", "unknown"
SINGLE, TUNED, ROUTED = range(3)  # levels: what is higher may require runs of what is lower
WITH_WEIGHTS = ("model", "reader", "summary", "adapter", "retriever", "router")  # by their `name`


@dataclass(frozen=True, slots=True)
class Requirement:
    """An artefact or a run; `what` says which, for people.

    `path` is None where it cannot be known yet. `state` is `there`, `to make`, or `unknown` where
    an encoder that decides it cannot be loaded here.
    """

    what: str
    path: Path | None
    state: str
    artefact: Artefact | None = None
    run: SingleRun | None = None

    @property
    def key(self) -> str:
        """Equal for requirements that are the same."""
        return self.what if self.path is None else str(self.path)

    def looked_at_again(self) -> Requirement:
        """The same requirement with its state of now."""
        if self.path is None or self.state == THERE:
            return self
        return replace(self, state=THERE if self._is_there(self.path) else self.state)

    def _is_there(self, path: Path) -> bool:
        if self.artefact is None:
            return RunFolder(path).finished
        return ArtefactStore(path.parent).find(self.artefact) is not None

    @property
    def is_begun(self) -> bool:
        """Whether somebody has begun to make it, and it is not finished now."""
        if self.path is None:
            return False
        begun = self.path.is_dir() or self.path.with_name(f".{self.path.name}{BEGUN}").is_dir()
        return begun and not self._is_there(self.path)


@dataclass(frozen=True, slots=True)
class Needs:
    """What a job requires, what is required first; `run` is its own folder.

    `error` says why the job is refused; the other fields then say nothing. `complete` is false
    where something that is not there yet decides what else it requires.
    """

    level: int = SINGLE
    run: RunFolder | None = None
    requires: tuple[Requirement, ...] = ()
    error: str | None = None
    single: SingleRun | None = None
    complete: bool = True

    def looked_at_again(self) -> Needs:
        """The same needs, each with its state of now."""
        return replace(self, requires=tuple(one.looked_at_again() for one in self.requires))

    @property
    def own_key(self) -> str:
        return "" if self.run is None else str(self.run.path)

    @property
    def missing(self) -> list[Requirement]:
        return [one for one in self.requires if one.state != THERE]

    @property
    def makes(self) -> frozenset[str]:
        """Keys of all that the job makes if nobody has made it before, itself included."""
        if self.run is None or self.run.finished:
            return frozenset()
        return frozenset([self.own_key, *(one.key for one in self.missing)])


def may_share(composed: JobConfig) -> bool:
    """Whether a job may require what another one makes, or requires, too: by its classes alone."""
    cfg, choices = composed.cfg, composed.choices
    learns = (
        ("retriever", "learns"), ("summary", "writes"), ("adapter", "uses_profile"),
        ("adapter", "learns_from_train"),
    )  # fmt: skip
    return (
        choices["router"] != GROUPS["router"].default
        or cfg.k == TUNE
        or cfg.mode == FEEDBACK
        or cfg.profile.pool == "neighbours"
        or any(components.class_value(cfg, group, name) for group, name in learns)
    )


def needs_of_job(
    composed: JobConfig, words: tuple[str, ...], readers: Mapping[str, RunFolder]
) -> Needs:
    """What a job of a sweep requires; the data are read, and nothing is made.

    `readers` are the runs of the sweep whose weights others use, by the name of their weights.
    """
    composed.activate()
    weights = {str(OmegaConf.select(composed.cfg, f"{group}.name")) for group in WITH_WEIGHTS}
    for name, folder in readers.items():
        if name in weights and not folder.finished:  # all else depends on its content
            unnamed = RunFolder(_unnamed(words))
            return Needs(run=unnamed, requires=(_reader(folder),), complete=False)
    cfg = composed.cfg.copy()
    composition.draw_seed(cfg)
    output_dir = Path(cfg.output_dir).expanduser()
    builder = ExperimentBuilder(cfg, composed.choices, words=words)
    try:
        if builder.routed:
            return routed_needs(RoutedRun.of(builder, output_dir))
        return single_needs(SingleRun.of(builder, output_dir), output_dir)
    except InputError as error:
        return Needs(error=str(error))


def _unnamed(words: tuple[str, ...]) -> Path:
    """Stands for a run whose name depends on weights that are not there yet."""
    return Path(f"run-{hashlib.sha256(' '.join(words).encode()).hexdigest()[:20]}")


def _reader(folder: RunFolder) -> Requirement:
    return Requirement(f"run {folder.name} (reader)", folder.path, TO_MAKE)


def single_needs(run: SingleRun, output_dir: Path) -> Needs:
    """What a run requires; the runs on dev of one whose k is tuned are among that."""
    level = TUNED if run.builder.tuned_values else SINGLE
    if run.folder.finished:
        return Needs(level, run.folder, single=run)
    requires = (*required_artefacts(run), *_tuning_runs(run, output_dir))
    complete = all(one.path is not None for one in requires)
    return Needs(level, run.folder, requires, single=run, complete=complete)


def routed_needs(run: RoutedRun) -> Needs:
    """What a routed run requires: the runs of its candidates, and all that these require."""
    if run.folder.finished:
        return Needs(ROUTED, run.folder)
    output_dir, requires, complete = run.folder.path.parent, list[Requirement](), True
    for candidate in run.candidates:
        for one in candidate.runs:
            inner = single_needs(one, output_dir)
            complete = complete and inner.complete
            what = f"run {one.folder.name} (candidate {candidate.name})"
            state = THERE if one.folder.finished else TO_MAKE
            requires += [*inner.requires, Requirement(what, one.folder.path, state, run=one)]
    if run.router.learns:
        requires.append(_fitted_router(run))
    distinct = tuple({one.key: one for one in requires}.values())
    return Needs(ROUTED, run.folder, distinct, complete=complete)


def _fitted_router(run: RoutedRun) -> Requirement:
    """What a router learns; its path is known only once the candidates have answered train."""
    decides = {n: v for n, v in run.identity.items() if n not in ("part", "candidates")}
    digest = hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()[:20]
    place = run.folder.path.parent / ".cache" / f"router-{digest}"
    return Requirement("router: learns from the candidates", place, TO_MAKE)


def required_artefacts(run: SingleRun) -> list[Requirement]:
    """The artefacts that a run needs, what is required first."""
    neighbours = list(_neighbours_to_find(run.parts))
    if neighbours:  # on which artefacts may depend
        return neighbours
    store, found = store_of(run.experiment), []
    for artefact, state in needed_artefacts(run.experiment, run.configuration, run.parts):
        what = f"{artefact.kind}: {artefact.cost()}"
        path = None if state == UNKNOWN else store.path(artefact)
        found.append(Requirement(what, path, state, artefact=artefact))
    return found


def _neighbours_to_find(parts: Parts) -> Iterator[Requirement]:
    """The neighbours of each part that have not been found yet."""
    seen = set[str]()
    for part in [*parts.by_name.values(), *([parts.learning] if parts.learning else [])]:
        neighbours = part.examples.view.neighbours
        if neighbours is None:
            continue
        what = f"neighbours: {len(neighbours.store):,} profiles of {part.reading['part']} to encode"
        try:
            state = THERE if neighbours.are_found else TO_MAKE
        except InputError:
            state = UNKNOWN
        if state != THERE and what not in seen:
            yield Requirement(what, None, state)
        seen.add(what)


def _tuning_runs(run: SingleRun, output_dir: Path) -> Iterator[Requirement]:
    """The runs on dev among which k is chosen."""
    for k in run.builder.tuned_values:
        experiment, configuration = run.builder.build(k, "dev")
        folder, _ = own_folder(experiment, configuration, read_parts(experiment), output_dir)
        state = THERE if folder.finished else TO_MAKE
        yield Requirement(f"run {folder.name} (k={k} on dev)", folder.path, state)

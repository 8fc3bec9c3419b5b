"""Small real objects that the tests share."""

from __future__ import annotations

import copy
import functools
import io
import json
import lzma
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

os.environ["HF_HUB_OFFLINE"] = "1"  # no test may reach a hub
os.environ["WANDB_MODE"] = "offline"
os.environ.setdefault("OMP_NUM_THREADS", "1")  # small models are slower on more threads

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra._internal.hydra import Hydra
from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf, open_dict

from lamp_exp import components, composition, config
from lamp_exp.conf_files import conf_folder
from lamp_exp.config import ExperimentBuilder
from lamp_exp.contracts import Task
from lamp_exp.data import Part, prepare
from lamp_exp.data.source import Sample, Source
from lamp_exp.experiment.experiment import Configuration, Experiment
from lamp_exp.experiment.identity import run_name
from lamp_exp.experiment.learning import learn
from lamp_exp.experiment.run import run_identity
from lamp_exp.experiment.stages import Parts, load_parts, rank
from lamp_exp.results.schema import CodeVersion, MetricFacts, RunResult
from lamp_exp.storage.rankings import RankingCache
from lamp_exp.values import Example, Hit, ModelSettings, ProfileItem, TrainingOptions

# A shell that starts the tests in the background lets all their processes ignore Ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)
CONF = Path(conf_folder())
DATA = Path(__file__).parent / "data"
ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared"
TINY = Path(config.__file__).parent / "models" / "tiny"
composition.register()


def options(group: str) -> list[str]:
    """The names of a group's options, as conf/ lists them."""
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


def compose(*overrides: str) -> tuple[DictConfig, dict[str, str]]:
    """The configuration as the command line makes it, and the names of the choices."""
    return copy.deepcopy(_composed(overrides))


@functools.cache
def _composed(overrides: tuple[str, ...]) -> tuple[DictConfig, dict[str, str]]:
    """Cached, because Hydra takes a tenth of a second."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = hydra_compose("config", list(overrides), return_hydra_config=True)
    choices = dict(cfg.hydra.runtime.choices)
    with open_dict(cfg):
        del cfg["hydra"]
    return cfg, choices


def build(*overrides: str) -> tuple[Experiment, Configuration]:
    """An experiment and its configuration, as the command line builds them."""
    return ExperimentBuilder(*compose(*overrides), answers={}).build()


def experiment(*overrides: str) -> Experiment:
    """An experiment as objects."""
    return build(*overrides)[0]


def ranked(*overrides: str) -> list[tuple[Example, list[Hit]]]:
    """Each question of the experiment's part with its whole ranking."""
    made, configuration = build(*overrides)
    return ranked_part(made, configuration, learned_parts(made, configuration).asked)


def learned_parts(made: Experiment, configuration: Configuration) -> Parts:
    """The parts of an experiment whose components have learned what they need."""
    parts = load_parts(made)
    learn(made, configuration, parts)
    return parts


def learning_words(option: str, reader: Path) -> list[str]:
    """The overrides by which a retriever that learns does so in no time; none for another."""
    cfg, _ = compose(f"retriever={option}")
    if not components.class_value(cfg, "retriever", "learns"):
        return []
    epochs = ["retriever.epochs=1"] if "epochs" in cfg.retriever else []
    small = ["max_new_tokens=3", "feedback.items=3", "limit=30"]
    return ["model=tiny", f"reader.name={reader}", *small, *epochs]


def ranked_part(
    made: Experiment, configuration: Configuration, part: Part, cache: RankingCache | None = None
) -> list[tuple[Example, list[Hit]]]:
    """Each question of a part with its whole ranking."""
    cache = cache or RankingCache(made.data.cache_dir / "rankings")
    rankings = rank(made, configuration, cache, part)
    return [
        (example, [] if rankings is None else rankings.hits(row, example))
        for row, example in enumerate(part.examples)
    ]


def name_of(*overrides: str) -> str:
    """The name of the experiment's run."""
    made, configuration = build(*overrides)
    identity = run_identity(made, configuration, load_parts(made))
    return run_name(identity, made.usage, configuration.choices)


def recorded(folder: Path) -> dict[str, Any]:
    """The content of a run's `result.json`."""
    content: dict[str, Any] = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    return content


def minimal_result(**changes: Any) -> RunResult:
    """A record with nothing in it but what a record must have."""
    empty = (
        "choices",
        "metric_facts",
        "profile",
        "data",
        "counts",
        "seconds",
        "retrieval",
        "model",
    )
    values: dict[str, Any] = {name: {} for name in (*empty, "settings", "identity", "versions")}
    values |= {name: "" for name in ("run", "started", "task", "split", "part", "mode", "fixes")}
    values |= {name: None for name in ("k", "metrics", "selection", "peak_memory_mb", "training")}
    values |= {"seed": 0, "main_metric": "accuracy", "notes": (), "made_up_data": True}
    values["metric_facts"] = {"accuracy": MetricFacts(True)}
    return RunResult(**{**values, "code": CodeVersion("0"), **changes})


def settings(**changes: Any) -> ModelSettings:
    """What a model is given, small."""
    given = {
        "max_length": 64,
        "max_new_tokens": 8,
        "predict_batch_size": 4,
        "seed": 0,
        "training": TrainingOptions(),
        **changes,
    }
    return ModelSettings(**given)


def trainer(**options: Any) -> Any:
    """A quiet trainer on the CPU."""
    import pytorch_lightning

    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    return pytorch_lightning.Trainer(**{"accelerator": "cpu", **quiet, **options})


def mean_loss(model: Any, batch: Any) -> float:
    """The loss per token."""
    loss, tokens = model.loss(batch)
    return float(loss / tokens)


def example(id: str, input: str, *items: dict[str, str], target: str | None = None) -> Example:
    """A question whose items are numbered 0, 1, …"""
    profile = tuple(ProfileItem(str(n), item) for n, item in enumerate(items))
    return Example(id, id, input, profile, target)


@pytest.fixture(autouse=True, scope="session")
def sample_made_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The sample's stores are made once in a session and copied: making one takes a second."""
    kept, make = tmp_path_factory.mktemp("sample"), prepare._make

    def make_or_copy(task: Task, source: Source, place: Path) -> None:
        if not isinstance(source, Sample):
            return make(task, source, place)
        known = kept / f"{source.stamp()}-{source.name}"
        if not known.exists():
            make(task, source, known)
        shutil.copytree(known, place, dirs_exist_ok=True)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prepare, "_make", make_or_copy)
        yield


@pytest.fixture(autouse=True, scope="session")
def quick_hydra() -> Iterator[None]:
    """Leaves out what Hydra does again for each command, which is a fifth of the tests' time.

    It composes a command twice, first only to look for `hydra.mode`, which no test in this process
    sets; it parses all files of `conf/`; and it copies the schema, which it copies again for use.
    """
    load = OmegaConf.load

    @functools.cache
    def parsed(text: str) -> Any:
        return OmegaConf.to_container(load(io.StringIO(text)))

    def load_once(file: Any) -> Any:
        is_open = hasattr(file, "read")
        return OmegaConf.create(copy.deepcopy(parsed(file.read()))) if is_open else load(file)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Hydra, "get_mode", lambda self, config_name, overrides: None)
        patch.setattr(OmegaConf, "load", staticmethod(load_once))
        patch.setattr(ConfigStore, "__deepcopy__", lambda self, memo: self, raising=False)
        yield


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test works in a folder of its own, so that caches and outputs lie there."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture(autouse=True)
def broken_pipes() -> Iterator[None]:
    """A command that ends with its reader (SIGPIPE) ends no later test."""
    before = signal.getsignal(signal.SIGPIPE)
    yield
    signal.signal(signal.SIGPIPE, before)


@pytest.fixture
def lamp_exp(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Runs the command in an empty folder: exit code, stdout, stderr."""
    from lamp_exp.__main__ import main

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["lamp_exp", *arguments])
        code = 0
        try:
            main()
        except SystemExit as end:
            code = int(end.code or 0)
        told = capsys.readouterr()
        return code, told.out, told.err

    return run


@pytest.fixture
def report(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Runs `python -m lamp_exp.report`: exit code, stdout, stderr."""
    from lamp_exp.report.__main__ import main

    def run(*arguments: object) -> tuple[int, str, str]:
        code = main([str(word) for word in arguments])
        told = capsys.readouterr()
        return code, told.out, told.err

    return run


@pytest.fixture(scope="session")
def t5_tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the tokenizer of T5, as a model's folder has it."""
    folder = tmp_path_factory.mktemp("t5_tokenizer")
    for file in (DATA / "t5_tokenizer").glob("*.json*"):
        content = file.read_bytes()
        content = lzma.decompress(content) if file.suffix == ".xz" else content
        (folder / file.name.removesuffix(".xz")).write_bytes(content)
    return folder


@pytest.fixture(scope="session")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a small T5, of which nothing says that its weights were drawn."""
    import torch

    from lamp_exp.models.seq2seq import fresh_t5
    from lamp_exp.models.token_counter import load_tokenizer

    folder, tokenizer = tmp_path_factory.mktemp("reader"), load_tokenizer(str(TINY))
    torch.manual_seed(0)
    sizes = {"d_model": 32, "d_kv": 8, "d_ff": 32, "num_layers": 1, "num_heads": 4}
    fresh_t5(tokenizer, sizes).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real data, where it lies beside the checkout."""
    if not SHARED.is_dir():
        pytest.skip("the real data beside the checkout is not here")
    return SHARED


@pytest.fixture
def data_dir(tmp_path: Path) -> Callable[..., Path]:
    """Writes a part in the official layout and returns the data folder."""

    def write(
        task: str, part: str, questions: object, golds: object = None, time: bool = False
    ) -> Path:
        folder = tmp_path / "data" / ("time" if time else "") / task / part
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{part}_questions.json").write_text(json.dumps(questions), encoding="utf-8")
        if golds is not None:
            (folder / f"{part}_outputs.json").write_text(json.dumps(golds), encoding="utf-8")
        return tmp_path / "data"

    return write


@pytest.fixture
def server() -> Iterator[Any]:
    """A real server on the loopback, which can misbehave in many ways."""
    from tests.file_server import serving

    with serving() as server:
        yield server


class Words:
    """Counts words as tokens, and an end token, as T5 would."""

    def count(self, text: str) -> int:
        return len(text.split()) + 1

    def count_unknown(self, text: str) -> int:
        return 0

    def truncate(self, text: str, limit: int) -> tuple[str, int]:
        words = text.split()[: limit - 1]
        return " ".join(words), len(words) + 1

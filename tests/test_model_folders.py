"""Folders and hub ids that a model, a tokenizer or an encoder cannot be loaded from: one line."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer

from lamp_exp.models.seq2seq import Seq2Seq
from tests import gguf_model
from tests.conftest import TINY, settings
from tests.test_causal import folder  # noqa: F401  (a fixture: small decoder-only models)
from tests.test_dense import encoder  # noqa: F401  (a fixture: a small encoder)
from tests.test_seq2seq import SIZES

ZERO = [
    "mode=zeroshot", "trainer=cpu", "trainer.enable_progress_bar=false", "limit=2", "k=1",
    "max_length=64", "max_new_tokens=4",
]  # fmt: skip
Change = Callable[[Path], object]


@pytest.fixture(scope="module")
def folders(tmp_path_factory, folder, encoder):  # noqa: F811
    """A whole folder of each kind, with the options of a command that uses it."""
    place = tmp_path_factory.mktemp("whole") / "t5"
    made = Seq2Seq(None, settings(), {"num_beams": 1}, fresh=SIZES)
    made.configure_model()
    made.net.save_pretrained(place)
    made.tokenizer.save_pretrained(place)
    return {
        "t5": (place, "model=flan_t5_base", "model.name"),
        "gpt2": (Path(folder()), "model=causal", "model.name"),
        "chat": (Path(folder(use="chat")), "model=causal", "model.name"),
        "bert": (Path(encoder), "retriever=contriever", "retriever.name"),
    }


def without(*patterns: str) -> Change:
    return lambda path: [one.unlink() for pattern in patterns for one in path.glob(pattern)]


def cut(name: str, keep: float = 0.5) -> Change:
    def change(path: Path) -> None:
        content = (path / name).read_bytes()
        (path / name).write_bytes(content[: int(len(content) * keep)])

    return change


def edit(name: str, **changes: object) -> Change:
    def change(path: Path) -> None:
        content = json.loads((path / name).read_text()) | changes
        (path / name).write_text(json.dumps({n: v for n, v in content.items() if v is not None}))

    return change


def smaller(path: Path) -> None:
    """Weights of fewer embeddings than the tokenizer has words."""
    made = AutoTokenizer.from_pretrained(TINY)
    if "t5" in (path / "config.json").read_text():
        from transformers import T5ForConditionalGeneration as Kind
    else:
        from transformers import GPT2LMHeadModel as Kind
    network = Kind.from_pretrained(path)
    network.resize_token_embeddings(len(made) - 100)
    network.save_pretrained(path)


def in_shards(path: Path) -> None:
    """As large models are saved, with one piece missing."""
    from transformers import T5ForConditionalGeneration

    network = T5ForConditionalGeneration.from_pretrained(path)
    (path / "model.safetensors").unlink()
    network.save_pretrained(path, max_shard_size="50KB")
    sorted(path.glob("model-*.safetensors"))[-1].unlink()


def fewer_layers(path: Path) -> None:
    """Weights without those of the last layer, which transformers would fill at random."""
    from safetensors.torch import load_file, save_file

    weights = load_file(path / "model.safetensors")
    kept = {name: weight for name, weight in weights.items() if "layer.1." not in name}
    assert len(kept) < len(weights)
    save_file(kept, path / "model.safetensors", {"format": "pt"})


def as_pickle_cut(path: Path) -> None:
    from safetensors.torch import load_file

    torch.save(load_file(path / "model.safetensors"), path / "pytorch_model.bin")
    (path / "model.safetensors").unlink()
    cut("pytorch_model.bin")(path)


def adapter_only(path: Path) -> None:
    peft = pytest.importorskip("peft")
    from transformers import T5ForConditionalGeneration

    network = T5ForConditionalGeneration.from_pretrained(path)
    adapted = peft.get_peft_model(network, peft.LoraConfig(r=2, target_modules="all-linear"))
    adapted.save_pretrained(path)
    without("config.json", "model.safetensors")(path)


NO_TOKENIZER = "it has weights, but no tokenizer's files"
DAMAGE: dict[tuple[str, str], tuple[Change, str]] = {
    **{
        (kind, "no tokenizer"): (without("tokenizer*", "chat_template*"), NO_TOKENIZER)
        for kind in ("t5", "gpt2", "bert")
    },
    **{
        (kind, f"cut {name}"): (cut(name), "could be loaded from it: ")
        for kind in ("t5", "bert")
        for name in ("tokenizer.json", "tokenizer_config.json", "config.json", "model.safetensors")
    },
    **{
        (kind, f"weights cut to {keep}"): (cut("model.safetensors", keep), "model.safetensors: ")
        for kind in ("t5", "gpt2", "bert")
        for keep in (0, 0.9)
    },
    ("bert", "fewer layers"): (fewer_layers, "parameters of the model, such as encoder.layer.1."),
    ("t5", "a missing piece"): (in_shards, "safetensors is missing"),
    ("t5", "cut pickle"): (as_pickle_cut, "no weights could be loaded from it: "),
    ("t5", "an adapter"): (adapter_only, "it holds an adapter: merge it into its model"),
    ("t5", "cut generation"): (cut("generation_config.json"), "generation_config.json' is not a"),
    ("t5", "few embeddings"): (smaller, "its tokenizer has 507 tokens, but its weights only 407"),
    ("gpt2", "few embeddings"): (smaller, "tokenizer has 508 tokens, but its weights only 407"),
    ("t5", "no padding"): (edit("tokenizer_config.json", pad_token=None), "has no pad_token"),
    ("bert", "no padding"): (edit("tokenizer_config.json", pad_token=None), "has no pad_token"),
    ("t5", "no end"): (edit("tokenizer_config.json", eos_token=None), "has no eos_token"),
    ("gpt2", "no end"): (edit("tokenizer_config.json", eos_token=None), "has no eos_token"),
}


@pytest.mark.parametrize(("kind", "damage"), DAMAGE)
def test_a_folder_that_is_not_whole_is_refused_before_any_work(
    lamp_exp, folders, tmp_path, kind, damage
):
    whole, component, option = folders[kind]
    change, expected = DAMAGE[kind, damage]
    place = tmp_path / "changed"
    shutil.copytree(whole, place)
    change(place)
    words = [component, f"{option}={place}", *ZERO]
    words += ["model=tiny"] if kind == "bert" else ["retriever=bm25"]
    code, _, err = lamp_exp("task=lamp4", *words)
    assert code == 2
    (line,) = [line for line in err.splitlines() if line.startswith("lamp_exp: ")]
    assert f"{option}={place}: " in line
    assert expected in line
    assert "Traceback" not in err
    assert not list(tmp_path.glob("outputs/lamp4*"))


def test_the_folder_of_a_run_is_not_that_of_its_weights(lamp_exp, tmp_path):
    (tmp_path / "result.json").touch()
    code, _, err = lamp_exp("mode=zeroshot", "model=tiny", f"model.name={tmp_path}")
    assert (code, "is a run that has no weights: choose one of mode=finetune" in err) == (2, True)
    (tmp_path / "checkpoint").mkdir()
    code, _, err = lamp_exp("mode=zeroshot", "model=tiny", f"model.name={tmp_path}")
    assert (code, f"its weights are model.name={tmp_path}/checkpoint" in err) == (2, True)


def test_a_folder_without_a_model_is_told_apart_from_a_broken_one(lamp_exp, tmp_path):
    code, _, err = lamp_exp("mode=zeroshot", "model=tiny", f"model.name={tmp_path}")
    assert (code, "the folder holds no model (no *.json or *.gguf)" in err) == (2, True)


@pytest.mark.parametrize("kind", ["t5", "gpt2", "chat", "bert"])
def test_a_whole_folder_works(lamp_exp, folders, kind):
    whole, component, option = folders[kind]
    words = [component, f"{option}={whole}", *(["model=tiny"] if kind == "bert" else [])]
    code, _, err = lamp_exp("task=lamp4", *words, *ZERO)
    assert code == 0, err


def test_sizes_of_a_fresh_model_are_refused_for_a_folder_with_weights(lamp_exp, folders):
    words = ["model=tiny", f"model.name={folders['t5'][0]}"]
    code, _, err = lamp_exp("task=lamp4", *ZERO, *words, "model.fresh.d_model=32")
    assert code == 2
    assert "model.fresh.d_model has no effect: model.name has weights of its own" in err
    assert lamp_exp("task=lamp4", *ZERO, *words)[0] == 0


@pytest.mark.parametrize("kind", ["t5", "gpt2"])
def test_a_models_own_generation_options_are_checked_and_answer_once(
    lamp_exp, folders, tmp_path, kind, caplog
):
    place, *words = folders[kind]
    shutil.copytree(place, tmp_path / "own")
    call = ["task=lamp4", *ZERO, words[0], f"model.name={tmp_path}/own", "rerun=true"]
    several = {"num_return_sequences": 2, "num_beams": 4, "return_dict_in_generate": True}
    edit("generation_config.json", **several)(tmp_path / "own")
    code, _, err = lamp_exp(*call, "output_dir=several")
    assert code == 0, err
    assert "generation_config.json: num_return_sequences=2 is not used" in caplog.text
    edit("generation_config.json", num_return_sequences=1, return_dict_in_generate=False)(
        tmp_path / "own"
    )
    answers = [path.read_text() for path in tmp_path.glob("several/lamp4*/predictions.json")]
    assert lamp_exp(*call, "output_dir=one")[0] == 0
    assert answers == [path.read_text() for path in tmp_path.glob("one/lamp4*/predictions.json")]
    edit("generation_config.json", repetition_penalty=-1)(tmp_path / "own")
    code, _, err = lamp_exp(*call, "output_dir=wrong")
    assert code == 2
    assert "generation_config.json cannot be used: `penalty` has to be a strictly positive" in err


def test_an_encoder_without_a_pooler_works(lamp_exp, folders, tmp_path):
    """No vector is made of what a pooler returns, and many encoders are saved without one."""
    from safetensors.torch import load_file, save_file

    shutil.copytree(folders["bert"][0], tmp_path / "bare")
    weights = load_file(tmp_path / "bare" / "model.safetensors")
    kept = {name: weight for name, weight in weights.items() if not name.startswith("pooler.")}
    assert len(kept) < len(weights)
    save_file(kept, tmp_path / "bare" / "model.safetensors", {"format": "pt"})
    words = ["retriever=contriever", f"retriever.name={tmp_path}/bare", "model=tiny"]
    assert lamp_exp("task=lamp4", *words, *ZERO)[0] == 0


def test_a_wrong_generation_config_of_a_hubs_model_is_refused_before_any_work(
    lamp_exp, folders, tmp_path, monkeypatch
):
    repository = tmp_path / "hub" / "models--a--b"
    shutil.copytree(folders["t5"][0], repository / "snapshots" / "1")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("1")
    for module in ("huggingface_hub.constants", "transformers.utils.hub"):
        for name in ("HF_HUB_CACHE", "TRANSFORMERS_CACHE"):
            monkeypatch.setattr(f"{module}.{name}", str(tmp_path / "hub"), raising=False)
    words = ["task=lamp4", *ZERO, "model=flan_t5_base", "model.name=a/b"]
    code, _, err = lamp_exp(*words)
    assert code == 0, err
    file = repository / "snapshots" / "1" / "generation_config.json"
    edit(file.name, repetition_penalty=-1)(file.parent)
    code, _, err = lamp_exp(*words, "output_dir=wrong")
    assert code == 2
    assert "generation_config.json cannot be used: `penalty` has to be a strictly" in err
    file.write_text("{")
    code, _, err = lamp_exp(*words, "output_dir=wrong")
    assert code == 2
    assert "generation_config.json' is not a valid JSON file" in err
    assert not list(tmp_path.glob("wrong/lamp4*"))


def test_weights_of_another_kind_are_refused(lamp_exp, folders, tmp_path):
    for model, kind in (("flan_t5_base", "gpt2"), ("causal", "t5")):
        code, _, err = lamp_exp(
            "task=lamp4", f"model={model}", f"model.name={folders[kind][0]}", *ZERO
        )
        assert code == 2
        assert "but this model= reads" in err
    shutil.copytree(folders["t5"][0], tmp_path / "mixed")
    shutil.copy(folders["gpt2"][0] / "model.safetensors", tmp_path / "mixed")
    code, _, err = lamp_exp(
        "task=lamp4", "model=flan_t5_base", f"model.name={tmp_path}/mixed", *ZERO
    )
    assert code == 2
    assert "its weights lack" in err


def test_special_tokens_that_no_text_holds_need_no_embedding(lamp_exp, folders, tmp_path):
    """Gemma's tokenizer has a token of images, for which its small models have no embedding."""
    shutil.copytree(folders["gpt2"][0], tmp_path / "image")
    words = AutoTokenizer.from_pretrained(tmp_path / "image")
    words.add_tokens(["<image>"], special_tokens=True)
    words.save_pretrained(tmp_path / "image")
    code, _, err = lamp_exp("task=lamp4", "model=causal", f"model.name={tmp_path}/image", *ZERO)
    assert code == 0, err


def test_the_context_holds_what_the_chat_template_writes(lamp_exp, folders):
    words = ["task=lamp4", *ZERO, "max_new_tokens=28", "max_length=100"]
    code, _, err = lamp_exp(*words, "model=causal", f"model.name={folders['gpt2'][0]}")
    assert code == 0, err  # 128 positions
    code, _, err = lamp_exp(*words, "model=causal", f"model.name={folders['chat'][0]}")
    assert code == 2
    assert "max_length=100 and max_new_tokens=28 need 143 positions, but model.name=" in err
    assert "has a context of 128 tokens" in err


@pytest.mark.long
def test_gguf_files_are_checked_too(lamp_exp, tmp_path):
    pytest.importorskip("gguf")
    pytest.importorskip("accelerate")
    words = ["task=lamp4", *ZERO, "model=causal", f"model.name={tmp_path}"]
    file = tmp_path / "small.gguf"
    gguf_model.write(file)
    whole = file.read_bytes()
    code, _, err = lamp_exp(*words, f"model.gguf_file={file.name}")
    assert code == 0, err
    code, _, err = lamp_exp(*words, f"model.gguf_file={file.name}", "max_length=2048")
    assert (code, "has a context of 2048 tokens" in err) == (2, True)
    for keep in (0, 100, 3_000, 20_000):
        file.write_bytes(whole[:keep])
        code, _, err = lamp_exp(*words, f"model.gguf_file={file.name}")
        assert (code, "no tokenizer could be loaded from it: " in err) == (2, True)
    for changes, expected in (({"words": False}, NO_TOKENIZER), ({"rows": 50}, "weights only 50")):
        gguf_model.write(file, **changes)
        code, _, err = lamp_exp(*words, f"model.gguf_file={file.name}")
        assert (code, expected in err) == (2, True)


@pytest.mark.parametrize("package", ["gguf", "accelerate"])
def test_a_gguf_file_needs_its_extra(lamp_exp, folders, monkeypatch, package):
    monkeypatch.setitem(sys.modules, "gguf", sys)  # whatever is installed
    monkeypatch.setitem(sys.modules, package, None)
    words = ["model=causal", f"model.name={folders['gpt2'][0]}", "model.gguf_file=x.gguf"]
    code, _, err = lamp_exp("task=lamp4", *words, *ZERO)
    assert code == 2
    assert f"model.gguf_file needs {package}: pip install 'lamp-exp[gguf]'" in err


def test_the_tokenizer_of_a_model_behind_an_api_is_checked_too(lamp_exp, folders, tmp_path):
    place = tmp_path / "changed"
    shutil.copytree(folders["gpt2"][0], place)
    without("tokenizer*")(place)
    words = ["model=openai", "model.name=x", "model.base_url=http://localhost:9/v1"]
    code, _, err = lamp_exp("task=lamp4", *words, f"model.tokenizer={place}", *ZERO[:1], "limit=2")
    assert (code, f"model.tokenizer={place}: {NO_TOKENIZER}" in err) == (2, True)


OFFLINE = """
import sys, time
from lamp_exp.errors import InputError
{imports}
start = time.monotonic()
try:
    {call}
except InputError as error:
    print(error)
print(time.monotonic() - start)
"""
CALLS = {
    "retriever.name=facebook/contriever": (
        "from lamp_exp.retrievers.encoder import load_encoder",
        "load_encoder('facebook/contriever', 512, 'cpu')",
    ),
    "model.name=google/flan-t5-base": (
        "from lamp_exp.models.token_counter import load_tokenizer",
        "load_tokenizer('google/flan-t5-base')",
    ),
    "model.name=google/flan-t5-small": (
        "from lamp_exp.models.seq2seq import Seq2Seq; from tests.conftest import settings",
        "Seq2Seq('google/flan-t5-small', settings(), {}).load('google/flan-t5-small')",
    ),
    "model.tokenizer=some/chat": (
        "from lamp_exp.models.token_counter import load_tokenizer",
        "load_tokenizer('some/chat', 'model.tokenizer')",
    ),
}


@pytest.mark.process
def test_without_a_network_a_command_ends_within_seconds(tmp_path: Path):
    """Within five on an idle machine: three for a server that says nothing, and those of Python."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        where = f"http://127.0.0.1:{silent.getsockname()[1]}"
        environment = {n: v for n, v in os.environ.items() if n != "HF_HUB_OFFLINE"}
        words = ["-m", "lamp_exp", "task=lamp4", "retriever=contriever", "model=tiny", *ZERO]
        start = time.monotonic()
        ended = subprocess.run(
            [sys.executable, *words], capture_output=True, text=True, cwd=tmp_path,
            env={**environment, "HF_ENDPOINT": where, "HF_HOME": str(tmp_path)},
        )  # fmt: skip
    assert time.monotonic() - start < 15  # imports alone may take longer on a busy one
    assert ended.returncode == 2
    (line,) = ended.stderr.splitlines()
    assert line.startswith("lamp_exp: retriever.name=facebook/contriever: no files could be loaded")
    assert line.endswith("give a local folder, retriever.name=FOLDER")


@pytest.mark.slow
@pytest.mark.parametrize("server", ["silent", "none"])
@pytest.mark.parametrize("name", CALLS)
def test_without_a_network_one_line_comes_within_seconds(tmp_path: Path, name, server):
    imports, call = CALLS[name]
    code = OFFLINE.format(imports=imports, call=call)
    if "conftest" in imports:  # which says that no hub may be reached
        code = f"import os\nimport tests.conftest\nos.environ.pop('HF_HUB_OFFLINE')\n{code}"
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        if server == "none":
            silent.close()
        words = {"HF_ENDPOINT": f"http://127.0.0.1:{port}", "HF_HOME": str(tmp_path)}
        environment = {n: v for n, v in os.environ.items() if n != "HF_HUB_OFFLINE"} | words
        ended = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, env=environment
        )
    assert ended.returncode == 0, ended.stderr
    line, seconds = ended.stdout.splitlines()[-2:]  # imports may print something
    option = name.partition("=")[0]
    assert line.startswith(f"{name}: no ")
    assert line.endswith(
        "it is not on this machine, and the hub does not answer: give a local folder, "
        f"{option}=FOLDER"
    )
    assert float(seconds) < 5
    assert "retry" not in ended.stderr.lower()

"""The reproduction card: a command that makes the same run, and nothing of this machine."""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import shutil
import zipfile
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from lamp_exp.override_words import _quoted, value_text
from lamp_exp.overrides import (
    command_of,
    overrides_of,
    requested_settings,
)
from lamp_exp.results.folder import RunFolder
from tests.conftest import build, compose, name_of
from tests.records import make_rankings
from tests.test_cli import QUICK, folder_of
from tests.test_leaderboard import questions

BASE = ["task=lamp4", "limit=4"]


def words_of(command: str) -> list[str]:
    """As a shell takes it apart."""
    first, *words = shlex.split(command)[2:]
    assert first == "lamp_exp"
    return words


WAYS = [
    "mode=rank",
    "mode=rank retriever=random split=time part=test seed=7",
    "mode=rank retriever.k1=1.2 profile.max_items=3 profile.keep=first document_dates=true",
    "mode=rank split=time profile.before=2015-06-01 profile.control=shuffled_user fixes=declared",
    "mode=prompts model=tiny k=2 skip=1 augmentation=fid augmentation.official=true",
    "mode=zeroshot model=tiny trainer=cpu k=0 max_length=64 max_new_tokens=3",
    "mode=zeroshot model=tiny trainer=cpu +model.generation.do_sample=true "
    "+model.generation.top_p=0.9 +model.generation.top_k=7",
    "mode=zeroshot model=tiny trainer=cpu ~model.generation.num_beams retriever=none",
    "mode=finetune experiment=first trainer.max_epochs=1 training.lr=1e-3 selection=holdout",
]


@pytest.mark.long
@pytest.mark.parametrize("way", WAYS)
def test_the_command_makes_the_same_run_and_gives_only_what_differs(way):
    asked = build(*BASE, *way.split())[1]
    words = words_of(command_of(asked.settings, asked.choices))
    again = build(*words)[1]
    assert name_of(*words) == name_of(*BASE, *way.split())
    assert again.settings["profile"] == asked.settings["profile"]
    needless = {f"{key}={value}" for key, value in compose()[0].items()}
    assert not needless & set(words)


def test_nothing_but_the_task_is_given_by_default():
    asked = build("mode=finetune")[1]
    assert overrides_of(asked.settings, asked.choices) == ["task=lamp4"]


def test_what_follows_from_another_option_is_left_to_it():
    cfg, choices = compose("model=openai", "model.name=gpt", "mode=zeroshot", "logger=wandb")
    words = overrides_of(OmegaConf.to_container(cfg, resolve=True), choices)
    assert words == ["task=lamp4", "model=openai", "model.name=gpt", "mode=zeroshot"]


ODD = ["a b", "null", "True", "1", "", "a,b", 'a"b', "a\\", 'a\\"b', "x=y", "[1]", "{a}", "it's",
       "2015-01-01", "~/x", "a:b", "#x", "é", "nan", "1e5", "(x)", "$x", "a\nb", " l "]  # fmt: skip


@pytest.mark.parametrize("value", ODD)
def test_any_text_survives_hydra_and_the_shell(value):
    from hydra.core.override_parser.overrides_parser import OverridesParser

    (word,) = shlex.split(shlex.quote(f"key={_quoted(value)}"))
    parsed = OverridesParser.create().parse_override(word)
    assert parsed.value() == value
    assert not parsed.is_sweep_override()


def test_lists_and_groups_of_values_survive():
    from hydra.core.override_parser.overrides_parser import OverridesParser

    value = {"a": [1, 2.5, "x y", None, True], "b": {"c": "d"}}
    assert OverridesParser.create().parse_override(f"k={value_text(value)}").value() == value


def test_an_option_that_is_gone_is_told():
    asked = build("mode=rank")[1]
    with pytest.raises(ValueError, match="today's conf/ cannot make it: retriever=mine does not"):
        overrides_of(asked.settings, {**asked.choices, "retriever": "mine"})


@pytest.fixture
def run(lamp_exp, data_dir):
    """A run on official files that lie elsewhere, below a home of a telling name."""
    rows = questions("lamp4", "1", "2")
    golds = {"task": "LaMP_4", "golds": [{"id": id, "output": "a b"} for id in ("1", "2")]}
    place = data_dir("LaMP_4", "dev", rows, golds)
    home = Path("secret_user/LaMP").resolve()
    home.parent.mkdir()
    shutil.move(place, home)
    code, out, err = lamp_exp("mode=zeroshot", f"data_dir={home}", *QUICK, "k=2")
    assert code == 0, err
    return folder_of(out)


def test_the_card_tells_what_a_repeat_needs(report, run, monkeypatch):
    monkeypatch.setenv("HOME", str(Path("secret_user").resolve()))
    result = RunFolder(run).read()
    code, out, err = report("card", run)
    assert (code, err) == (0, "")
    assert out.startswith(f"# {run.name}\n")
    for told in (
        "data_dir=LaMP", result.code.fingerprint, result.data["asked"].fingerprint,
        f"torch=={result.versions['torch'].split('+')[0]}", "- device: cpu", "- threads: ",
        "python -m lamp_exp.data download --task lamp4 --split user --part dev --data-dir LaMP",
        f"| rouge_1 | {result.metrics['rouge_1']!r} | 2 |", "Seed 0.", "peak memory in MB",
        "2 questions with an empty profile", "| `predictions.json` |",
    ):  # fmt: skip
        assert told in out, told
    assert "Made-up" not in out
    for secret in ("secret_user", str(Path.cwd()), os.environ["HOME"]):
        assert secret not in out


def test_its_command_repeats_the_run_beside_the_same_data(report, run, lamp_exp, monkeypatch):
    card = json.loads(report("card", run, "--format", "json")[1])
    monkeypatch.chdir("secret_user")
    from lamp_exp.__main__ import main

    monkeypatch.setattr("sys.argv", ["lamp_exp", *words_of(card["command"])])
    main()
    assert [path.name for path in Path("outputs").glob("lamp4*")] == [run.name]


def test_files_are_listed_with_their_hashes(report, run):
    (run / ".hidden").write_text("x")
    files = json.loads(report("card", run, "--format", "json")[1])["files"]
    named = {file["name"]: file for file in files}
    assert {"result.json", "config.yaml", "predictions.json", "examples.parquet"} <= named.keys()
    assert ".hidden" not in named
    content = (run / "predictions.json").read_bytes()
    assert named["predictions.json"]["sha256"] == hashlib.sha256(content).hexdigest()
    assert named["predictions.json"]["bytes"] == len(content)


def test_it_goes_into_a_file_and_takes_a_bare_name(report, run):
    code, out, _ = report("card", run.name, "--out", "appendix/card.md")
    assert (code, out) == (0, "appendix/card.md\n")
    assert Path("appendix/card.md").read_text().startswith(f"# {run.name}")


@pytest.mark.long
def test_a_stale_run_and_changed_code_are_said(report, run):
    RunFolder(run).mark_stale("old code")
    path = run / "result.json"
    result = json.loads(path.read_text())
    code = {**result["code"], "commit": "abc", "changed": True}
    path.write_text(json.dumps({**result, "code": code}))
    out = report("card", run)[1]
    assert "**Stale:** old code." in out
    assert "- lamp-exp 0.1.0, commit `abc`, **with changes that were not committed**" in out


def test_a_ranking_has_no_metrics_as_nothing_is_answered(report, tmp_path):
    run = make_rankings(tmp_path, {"1": ["a"], "2": ["b"]})
    assert "No metrics: mode=rank answers no question." in report("card", run)[1]


def test_a_run_whose_options_are_gone_has_a_card_without_a_command(report, run):
    path = run / "result.json"
    result = json.loads(path.read_text())
    path.write_text(json.dumps({**result, "choices": {**result["choices"], "model": "mine"}}))
    code, out, _ = report("card", run)
    assert code == 0
    assert "None: today's conf/ cannot make it: model=mine does not exist" in out


def test_training_is_told(report, lamp_exp):
    run = ["task=lamp4", *QUICK, "trainer.max_epochs=2", "limit=6", "training.batch_size=3"]
    _, out, _ = lamp_exp(*run)
    card = report("card", folder_of(out))[1]
    assert "- epochs: 2\n" in card
    assert "- optimizer steps: 4\n" in card
    assert "- effective batch size: 3\n" in card
    assert "**Made-up sample, not LaMP.**" in card
    assert "The sample is made by the code of this commit." in card
    assert "trainer.max_epochs=2" in card
    assert "| `checkpoint/model.safetensors` |" in card


def test_a_tuned_run_is_asked_for_as_such(report, lamp_exp):
    run = ["task=lamp4", "mode=zeroshot", "k=tune", "k_values=[1,2]", "limit=3", *QUICK]
    code, out, _ = lamp_exp(*run)
    assert code == 0
    result = RunFolder(folder_of(out)).read()
    words = overrides_of(requested_settings(result), result.choices)
    assert "k=tune" in words
    assert "k_values=[1,2]" in words
    card = report("card", folder_of(out))[1]
    assert f"k={result.k} was the best on dev (k=1: " in card


def test_a_model_is_named_by_display_name_which_names_no_run(report, lamp_exp):
    words = ["task=lamp4", "mode=zeroshot", "limit=3", *QUICK]
    names = []
    for more in ([], ["model.display_name=Mine"]):
        code, out, err = lamp_exp(*words, *more, "rerun=true")
        assert code == 0, err
        names.append(folder_of(out).name)
    assert names[0] == names[1]
    code, out, _ = report("table", "--columns", "weights", "--format", "csv")
    assert code == 0 and ",weights=Mine," in out
    assert "model.display_name=Mine" in report("card", names[0])[1]


def test_an_import_is_repeated_by_an_import(report, run):
    official = ["import", run / "predictions.json", "--name", "It's mine", "--url", "https://a.b/c"]
    code, out, _ = report(*official, "--data-dir", "secret_user/LaMP")
    assert code == 0
    card = report("card", folder_of(out))[1]
    assert (
        "python -m lamp_exp.report import predictions.json --task lamp4 "
        f"--name {shlex.quote(str(official[3]))} --split user --part dev --seed 0"
    ) in card
    assert "- https://a.b/c" in card


def put_into(archive: str, file: str) -> str:
    with zipfile.ZipFile(archive, "w") as opened:
        opened.write(file, "LaMP_4.json")
    return archive


@pytest.mark.parametrize("zipped", [False, True])
def test_an_import_s_command_makes_the_same_run_with_the_same_metrics(report, run, zipped):
    content = {"task": "LaMP_4", "golds": [{"id": id, "output": "a c"} for id in ("1", "2")]}
    Path("golds.json").write_text(json.dumps(content))
    Path("secret_user/LaMP/LaMP_4/dev/dev_outputs.json").unlink()
    shutil.copy(run / "predictions.json", "theirs.json")
    theirs, golds = "theirs.json", "golds.json"
    if zipped:  # with files of one name in both
        theirs, golds = (put_into(f"{name}.zip", name) for name in (theirs, golds))
    told = ["--name", "T", "--description=- a 'good' one", "--url", "https://a.b/c"]
    given = ["--golds", f"elsewhere/../{golds}", "--data-dir", "secret_user/LaMP"]
    Path("elsewhere").mkdir()
    code, out, err = report("import", theirs, *given, *told)
    assert code == 0, err
    made = folder_of(out)
    card = json.loads(report("card", made, "--format", "json")[1])
    words = shlex.split(card["command"])
    assert words[:3] == ["python", "-m", "lamp_exp.report"]
    words[words.index("--data-dir") + 1] = "secret_user/LaMP"
    code, out, _ = report(*words[3:], "--output-dir", "again")
    again = folder_of(out)
    assert (code, again.name) == (0, made.name)
    kept = ("metrics", "imported", "identity")
    first, second = (RunFolder(folder).read() for folder in (made, again))
    assert [getattr(first, key) for key in kept] == [getattr(second, key) for key in kept]
    assert first.metrics["rouge_1"] is not None


def test_what_is_no_run_is_told(report, run):
    for word, told in {
        "nowhere": "no finished run is 'nowhere' in outputs: give its folder",
        "outputs/nowhere": "no finished run is 'outputs/nowhere'",
        "secret_user": "no finished run is 'secret_user'",
    }.items():
        code, _, err = report("card", word)
        assert (code, err.count("\n")) == (2, 1)
        assert told in err
    shutil.copytree(run, run.parent / "other")
    code, _, err = report("card", "outputs")
    assert (code, "no finished run is 'outputs'" in err) == (2, True)
    (run / "predictions.json").unlink()
    assert "files of it are missing" in report("card", run)[2]

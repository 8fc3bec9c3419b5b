"""The command line, end to end: what a run writes, and how mistakes end."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet
import pytest
import yaml

from lamp_exp.__main__ import options_first
from lamp_exp.models.token_counter import load_tokenizer
from lamp_exp.options import GROUPS, OPTIONS
from lamp_exp.results.folder import RunFolder
from lamp_exp.storage.contents import folder_fingerprint
from lamp_exp.tasks.lamp3 import Lamp3
from lamp_exp.usage import description_of, show_options
from tests.conftest import TINY, name_of, options, recorded

QUICK = ["model=tiny", "trainer=cpu", "trainer.enable_progress_bar=false", "max_new_tokens=8"]
TRAIN = [*QUICK, "trainer.max_epochs=1", "limit=12", "training.batch_size=6"]


def folder_of(out: str) -> Path:
    return Path(out.strip().splitlines()[-1])


def runs_of(out: str) -> list[Path]:
    """The folders of a sweep's finished runs."""
    summary = json.loads((folder_of(out) / "summary.json").read_text())
    return [Path(seed["run"]) for row in summary["rows"] for seed in row["seeds"]]


def rows(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_rank_writes_whole_rankings_with_scores(lamp_exp):
    code, out, _ = lamp_exp("task=lamp2", "mode=rank", "retriever=bm25", "limit=9")
    assert code == 0
    assert "made-up sample" in out
    assert "see rankings.jsonl in the folder below" in out
    assert "only the first questions of each part (limit=9)" in out
    folder = folder_of(out)
    ranked = rows(folder / "rankings.jsonl")
    assert len(ranked) == 9
    assert all({"id", "score"} == item.keys() for row in ranked for item in row["items"])
    assert sorted(path.name for path in folder.iterdir()) == [
        "config.yaml", "rankings.jsonl", "result.json", "run.log",
    ]  # fmt: skip


def test_prompts_are_one_row_a_question(lamp_exp):
    for augmentation, passages in (("ipa", 1), ("fid", 3)):
        code, out, _ = lamp_exp(
            "task=lamp5", "mode=prompts", "k=3", "limit=5", f"augmentation={augmentation}", *QUICK
        )
        assert code == 0
        made = rows(folder_of(out) / "prompts.jsonl")
        assert [row.keys() for row in made] == [{"id", "passages", "items"}] * 5
        assert {len(row["passages"]) for row in made if len(row["items"]) == 3} == {passages}


def test_prompts_and_rankings_need_no_golds(lamp_exp, data_dir):
    row = {"id": 5, "input": f"{Lamp3().instruction} fine", "profile": []}
    place = data_dir("LaMP_3", "test", [row])
    for mode in ("rank", "prompts", "zeroshot"):
        code, out, _ = lamp_exp(
            "task=lamp3", "part=test", f"data_dir={place}", f"mode={mode}", *QUICK
        )
        assert code == 0
    result = json.loads((folder_of(out) / "result.json").read_text())
    assert result["metrics"] is None
    assert "no golds" in out
    predictions = json.loads((folder_of(out) / "predictions.json").read_text())
    assert predictions["task"] == "LaMP_3"
    assert [gold["id"] for gold in predictions["golds"]] == [5]


@pytest.mark.long
def test_finetune_records_everything_and_its_checkpoint_loads_back(lamp_exp, report):
    code, out, _ = lamp_exp("task=lamp4", "augmentation=fid", "retriever=random", "k=2", *TRAIN)
    assert code == 0
    folder = folder_of(out)
    result = recorded(folder)
    assert set(result["metrics"]) == {"rouge_1", "rouge_l"}
    assert set(result["seconds"]) == {"rank", "prompts", "train", "predict", "score"}
    assert result["training"]["optimizer_steps"] == 2
    assert result["made_up_data"] is True
    assert result["seed"] == 0
    assert result["versions"]["torch"]
    assert result["model"]["weights"] == "random"
    assert any("chosen on dev" in note for note in result["notes"])
    assert yaml.safe_load((folder / "config.yaml").read_text())["k"] == 2
    table = pyarrow.parquet.read_table(folder / "examples.parquet").to_pydict()
    assert len(table["id"]) == 12
    assert {"user", "target", "prediction", "rouge_1", "profile_size", "items"} <= table.keys()
    mean = sum(table["rouge_1"]) / 12
    assert mean == pytest.approx(result["metrics"]["rouge_1"], abs=1e-12)
    predictions = json.loads((folder / "predictions.json").read_text())["golds"]
    assert [gold["output"] for gold in predictions] == table["prediction"]
    logs = (folder / "training" / "metrics.csv").read_text()
    assert "rouge_1" in logs
    code, out, _ = lamp_exp(
        "task=lamp4", "augmentation=fid", "retriever=random", "k=2", "mode=zeroshot", *QUICK,
        f"model.name={folder / 'checkpoint'}", "limit=12",
    )  # fmt: skip
    assert code == 0
    again = recorded(folder_of(out))
    assert again["metrics"] == result["metrics"]
    assert not any("the checkpoint was trained" in note for note in again["notes"])
    assert "the weights were fine-tuned before: a checkpoint of this project" in again["notes"]
    code, _, err = report("table4")
    assert code == 2  # nothing is filed as zero-shot
    assert "no run fits this table (LaMP table 4: zero-shot" in err
    code, out, _ = report("table", "--where", "mode=checkpoint", "--rows", "metric", "mode")
    assert code == 0
    assert "checkpoint" in out
    _, out, _ = lamp_exp(
        "task=lamp4", "augmentation=fid", "retriever=bm25", "k=3", "mode=zeroshot", *QUICK,
        f"model.name={folder / 'checkpoint'}", "limit=12",
    )  # fmt: skip
    told = "trained with retriever=random k=2, and is asked with retriever=bm25 k=3"
    assert told in " ".join(out.split())


def test_an_untrained_model_that_is_to_fuse_passages_is_noted(lamp_exp):
    _, out, _ = lamp_exp("task=lamp4", "mode=zeroshot", "augmentation=fid", "limit=3", *QUICK)
    assert "without fine-tuning" in out


def test_each_logger_gets_the_curves_and_the_final_metrics(lamp_exp):
    run = ["-m", "task=lamp4", "augmentation=fid", *TRAIN]
    code, out, _ = lamp_exp(*run, "logger=csv", "seed=0,1")
    assert code == 0
    for run in runs_of(out):
        logs = (run / "training" / "metrics.csv").read_text()
        assert "train_loss" in logs
        assert "final/rouge_1" in logs


@pytest.mark.slow
def test_each_job_of_a_sweep_is_one_offline_run_of_wandb(lamp_exp, tmp_path, monkeypatch):
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    code, _, _ = lamp_exp("-m", "task=lamp4", "logger=wandb", "seed=0,1", *TRAIN)
    assert code == 0
    assert len(list(tmp_path.glob("outputs/lamp4*/wandb/offline-run-*/*.wandb"))) == 2


def test_a_finished_run_is_shown_and_not_run_again(lamp_exp):
    run = ["task=lamp4", "mode=zeroshot", "limit=4", *QUICK]
    _, out, _ = lamp_exp(*run)
    written = (folder_of(out) / "result.json").stat().st_mtime_ns
    code, again, _ = lamp_exp(*run)
    assert (code, again) == (0, out)
    assert (folder_of(out) / "result.json").stat().st_mtime_ns == written
    time.sleep(0.01)
    lamp_exp(*run, "rerun=true")
    assert (folder_of(out) / "result.json").stat().st_mtime_ns > written


def test_the_run_is_shown_beside_its_own_baseline(lamp_exp):
    run = ["task=lamp4", "mode=zeroshot", "limit=4", *QUICK]
    _, out, _ = lamp_exp(*run)
    assert "k=0" not in out
    lamp_exp(*run, "k=0")
    _, out, _ = lamp_exp(*run)
    assert "without profile (k=0)" in out


def test_runs_without_items_are_one_run_however_they_are_asked_for(lamp_exp):
    run = ["task=lamp4", "mode=zeroshot", "limit=4", *QUICK]
    ways = ["k=0", "retriever=none", "retriever=none k=3", "k=0 augmentation=fid"]
    folders = {folder_of(lamp_exp(*run, *way.split())[1]) for way in ways}
    assert len(folders) == 1


def test_without_a_profile_nothing_is_ranked(lamp_exp, monkeypatch):
    from lamp_exp.retrievers.bm25 import BM25

    monkeypatch.setattr(BM25, "rank", None)
    _, out, _ = lamp_exp("task=lamp4", "mode=prompts", "limit=4", "k=0", *QUICK)
    result = recorded(folder_of(out))
    assert result["retrieval"]["ranking_cache"] == {"read": 0, "made": 0}
    assert result["counts"]["questions"] == 4


@pytest.mark.long
def test_without_a_profile_the_profile_is_not_looked_at(lamp_exp, data_dir):
    item = {"id": "1", "text": "good", "score": "5"}
    row = {"id": "a", "input": f"{Lamp3().instruction} fine", "profile": [item] * 3}
    made = []
    for profile in ([item], []):
        place = data_dir("LaMP_3", "dev", [{**row, "profile": profile}])
        run = ["task=lamp3", f"data_dir={place}", "mode=prompts", "retriever=none", *QUICK]
        _, out, _ = lamp_exp(*run)
        made.append((folder_of(out) / "prompts.jsonl").read_text())
    assert made[0] == made[1]


@pytest.mark.long
def test_empty_profiles_do_not_stop_a_batch(lamp_exp, data_dir):
    item = {"id": "1", "text": "good", "score": "5"}
    questions = [
        {"id": str(n), "input": f"{Lamp3().instruction} fine", "profile": profile}
        for n, profile in enumerate([[item], [], [item]])
    ]
    place = data_dir("LaMP_3", "dev", questions)
    for retriever in ("bm25", "bm25_okapi", "random", "none"):
        for augmentation in ("ipa", "fid"):
            code, out, _ = lamp_exp(
                "task=lamp3", f"data_dir={place}", "mode=zeroshot", f"retriever={retriever}",
                f"augmentation={augmentation}", *QUICK,
            )  # fmt: skip
            assert code == 0
            assert recorded(folder_of(out))["counts"]["empty_profiles"] == 1
            assert "1 question with an empty profile" in out


def test_a_profile_smaller_than_k_is_shown_once_and_whole(lamp_exp, data_dir):
    items = [{"id": str(n), "text": f"text {n}", "score": "5"} for n in range(2)]
    row = {"id": "a", "input": f"{Lamp3().instruction} fine", "profile": items}
    place = data_dir("LaMP_3", "dev", [row])
    for retriever in ("bm25", "random"):
        _, out, _ = lamp_exp(
            "task=lamp3",
            f"data_dir={place}",
            "mode=prompts",
            f"retriever={retriever}",
            "k=16",
            *QUICK,
        )
        (made,) = rows(folder_of(out) / "prompts.jsonl")
        assert sorted(item["id"] for item in made["items"]) == ["0", "1"]
        assert made["passages"][0].count("is the score for") == 2
        counts = recorded(folder_of(out))["counts"]
        assert counts["questions"] == counts["passages"] == 1
        assert (counts["items_shown"], counts["unknown_tokens"]) == (2, 0)
        tokens = load_tokenizer(str(TINY))(made["passages"][0])["input_ids"]
        assert counts["prompt_tokens"] == len(tokens)


@pytest.mark.long
def test_settings_that_change_prompts_never_share_a_run(lamp_exp):
    base = ["task=lamp4", "mode=prompts", "limit=3", *QUICK]
    changes = [
        "", "max_length=64", "retriever=random", "k=2", "retriever.k1=1.2", "limit=4", "seed=1",
        "augmentation=fid", "split=time", "part=test", "augmentation.official=true",
    ]  # fmt: skip
    folders = [folder_of(lamp_exp(*base, *change.split())[1]) for change in changes]
    assert len(set(folders)) == len(changes)


def test_settings_that_change_no_number_share_a_run(lamp_exp):
    base = ["task=lamp4", "mode=zeroshot", "limit=3", *QUICK]
    changes = [[], ["predict_batch_size=2"], ["trainer.log_every_n_steps=5"], ["logger=wandb"]]
    folders = [folder_of(lamp_exp(*base, *change)[1]) for change in changes]
    assert len(set(folders)) == 1


def test_a_run_made_anew_that_fails_leaves_the_finished_one(lamp_exp, monkeypatch):
    from lamp_exp.tasks.lamp4 import Lamp4

    run = ["task=lamp4", "mode=zeroshot", "limit=3", *QUICK]
    folder = folder_of(lamp_exp(*run)[1])
    before = (folder / "result.json").read_text()
    with monkeypatch.context() as broken:
        broken.setattr(Lamp4, "score", None)
        assert lamp_exp(*run, "rerun=true")[0] == 2
    assert (folder / "result.json").read_text() == before
    assert "TypeError" in (folder.parent / f".{folder.name}.new" / "run.log").read_text()
    assert lamp_exp(*run, "rerun=true")[0] == 0
    assert recorded(folder)["run"] == folder.name
    assert not (folder.parent / f".{folder.name}.new").exists()


@pytest.mark.long
def test_devices_and_nodes_are_no_part_of_the_identity(lamp_exp):
    def name(*overrides: str) -> str:
        return name_of("task=lamp4", *TRAIN, *overrides)

    assert name() == name("trainer=ddp", "trainer.devices=2") == name("trainer.devices=2")
    assert name() != name("trainer.accumulate_grad_batches=2")
    assert name() == name("trainer.log_every_n_steps=7")
    assert name("mode=zeroshot") == name("mode=zeroshot", "trainer.devices=2")


def test_training_inputs_that_lose_items_are_counted(lamp_exp):
    _, out, _ = lamp_exp("task=lamp4", "max_length=40", *TRAIN)
    learned = recorded(folder_of(out))["training"]["learned_from"]
    assert learned["train"]["passages"] == learned["selection"]["passages"] == 12
    assert learned["train"]["items_lost"] > 0


def test_retrievers_read_dates_if_asked_to(lamp_exp, data_dir):
    items = [
        {"id": str(n), "text": "same", "score": "5", "date": date}
        for n, date in enumerate(["2020-01-01", "2021-02-03"])
    ]
    row = {"id": "1", "input": f"{Lamp3().instruction} 2021-02-03", "profile": items}
    place = data_dir("LaMP_3", "dev", [row], time=True)
    firsts = []
    for dates in ("false", "true"):
        _, out, _ = lamp_exp(
            "task=lamp3", "split=time", f"data_dir={place}", "mode=rank", "retriever=bm25",
            f"document_dates={dates}",
        )  # fmt: skip
        (ranked,) = rows(folder_of(out) / "rankings.jsonl")
        firsts.append([item["id"] for item in ranked["items"]])
    assert firsts == [["0", "1"], ["1", "0"]]


def test_a_folder_is_known_by_its_content_and_not_by_its_place(tmp_path: Path):
    long = "x" * 3_000_000
    for name, text in (("a", f"{long}1"), ("b", f"{long}1"), ("c", f"{long}2")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(text)
    prints = [folder_fingerprint(str(tmp_path / name)) for name in "abc"]
    assert prints[0] == prints[1] != prints[2]
    assert folder_fingerprint("google/flan-t5-base") == "google/flan-t5-base"


def test_a_drawn_seed_is_recorded_and_can_be_given_again(lamp_exp):
    run = ["task=lamp4", "mode=rank", "retriever=random", "limit=3"]
    first, second = (folder_of(lamp_exp(*run, "seed=null")[1]) for _ in range(2))
    assert first != second
    seed = recorded(first)["seed"]
    assert folder_of(lamp_exp(*run, f"seed={seed}")[1]) == first


def test_a_relative_data_dir_is_read_from_where_the_command_is_given(lamp_exp, data_dir, tmp_path):
    data_dir("LaMP_3", "dev", [{"id": "a", "input": f"{Lamp3().instruction} x", "profile": []}])
    run = ["task=lamp3", "data_dir=./data", "mode=rank", "rerun=true"]
    for multirun in ([], ["-m"], ["-m", "hydra.job.chdir=true"], ["hydra.job.chdir=true"]):
        code, out, _ = lamp_exp(*multirun, *run)
        assert code == 0
        (folder,) = runs_of(out) if multirun[:1] == ["-m"] else [folder_of(out)]
        assert folder.parent == Path("outputs")
        assert RunFolder(tmp_path / folder).finished
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "outputs"]
    assert not (tmp_path / "multirun").exists()


def test_a_multirun_goes_on_after_a_job_that_cannot_be(lamp_exp):
    run = ["-m", "task=lamp4", "mode=rank", "retriever=bm25", "limit=3"]
    code, out, err = lamp_exp(*run, "data_dir=nowhere,null")
    assert code == 2
    assert "FAILED data_dir=nowhere: no questions at nowhere" in err
    assert "done lamp4-user-dev-rank-bm25" in err
    assert "redo: python -m lamp_exp task=lamp4" in out


@pytest.mark.long
def test_two_processes_that_want_the_same_run_do_not_write_it_twice(tmp_path: Path):
    command = [
        sys.executable,
        "-m",
        "lamp_exp",
        "mode=rank",
        "task=lamp4",
        f"output_dir={tmp_path}",
    ]
    started = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    told = [process.communicate() for process in started]
    codes = [process.returncode for process in started]
    assert 0 in codes
    for code, (out, err) in zip(codes, told, strict=True):
        assert (code == 0 and out) or "being written by another process" in err
    assert len([path for path in tmp_path.iterdir() if not path.name.startswith(".")]) == 1


MISTAKES = {
    "sweep=table2": "are added with a plus: python -m lamp_exp -m +sweep=table2",
    "+sweep=table9": "sweep=table9 does not exist: choose one of ablation",
    "limit=abc": "limit=abc must be a whole number",
    "training.lr=fast": "training.lr=fast must be a number",
    "fail_fast=maybe": "fail_fast=maybe must be true or false",
    "k=0 4": "4: an option is name=value",
    "+sweep=table2": "+sweep=table2 is of many runs: add -m",
    "retriever=rrf retriever.of.contriever=null": "to remove it, give '~retriever@retriever",
    "retriever=rrf ~retriever.of.contriever": "to remove it, give '~retriever@retriever.of.contr",
    "router=vote router.candidates.bm52=null": "router.candidates has no bm52: did you mean bm25?",
    "router=vote ~router.candidates.bm52": "router.candidates has no bm52: did you mean bm25?",
    "router=vote router.candidates.xyzw.k=1": "it has bm25, contriever, none, recency, ropg_kd and",
    "router=vote mode=zeroshot model=tiny router.candidates.bm25.retriever=bm52": (
        "router.candidates.bm25: retriever=bm52 does not exist: choose one of"
    ),
    "retriver=bm25": "retriver is no option: did you mean retriever?",
    "retriever.k3=1": "of the retriever that was chosen: did you mean retriever.k1 (of bm25",
    "retriever.zzzz=1": "of the retriever that was chosen: see conf/retriever/",
    "retriever=bm52": "retriever=bm52 does not exist: choose one of bm25",
    "retriever=null": "use retriever=none",
    "retriever=None": "does not exist: choose one of",
    "task=lamp8": "task=lamp8 does not exist: choose one of lamp1",
    "k=-1": "k=-1 must be at least 0",
    "k=four": "k=four must be a number of profile items, or tune",
    "limit=0": "limit=0 must be at least 1",
    "max_length=0": "max_length=0 must be at least 1",
    "split=users": "split=users must be one of user, time",
    "part=valid": "part=valid must be one of train, dev, test",
    "mode=train": "mode=train must be one of finetune, zeroshot, prompts, rank",
    "seed=x": "seed=x must be a whole number",
    "training.lr=0": "training.lr=0.0 must be above 0",
    "training.batch_size=0": "training.batch_size=0 must be at least 1",
    "training.lora_rank=0": "training.lora_rank=0 must be at least 1",
    "training.patience=0": "training.patience=0 must be at least 1",
    "trainer.max_epochs=0": "trainer.max_epochs=0 must be at least 1",
    "seed=-1": "seed=-1 must be at least 0",
    "seed=4294967296": "seed=4294967296 must be at most 4294967295",
    "trainer.precision=foo": "trainer.precision=foo must be one of 64, 32, 16,",
    "retriever.k1=-1": "retriever.k1=-1 must be at least 0",
    "retriever.b=5": "retriever.b=5 must be from 0 to 1",
    "router.candidates=[1] router=vote": "router.candidates=[1] must map names to values",
    "k": "k: an option is name=value, without spaces around =",
    "retriever.k1=high": "retriever.k1=high must be a number",
    "retriever.k1=true": "retriever.k1=true must be a number",
    "split=time retriever=time_decay retriever@retriever.of=bm25 retriever.of.b=x": "b=x must be",
    "model.name=a/b/c": "model.name=a/b/c: there is no such folder",
    "router=vote router.candidates=fixed": "write router/candidates=fixed",
    "router=vote router.candidates=null": "router.candidates=null must map names to options",
    "trainer.accelerator=foo": "trainer: ",
    "model.dtype=float23": "model.dtype=float23 does not exist",
    "model.dtype=bfloat16": "use model.dtype=float32",
    "trainer.precision=bf16-true": "use model.dtype=float32",
    "output_dir=/dev/null/x": "output_dir=/dev/null/x cannot be made",
    f"model=flan_t5_base model.name={TINY}": "no weights could be loaded",
    "training.learning_rate=1": "training.learning_rate is no option",
    "training.lora_rang=3": "training.lora_rang is no option",
    "+retriever.k2=1": "retriever.k2 is no option of BM25",
    "trainer.max_epochs=x": "trainer.max_epochs=x must be a whole number",
    "trainer.accumulate_grad_batches=0": "accumulate_grad_batches=0 must be at least 1",
    "trainer.accumulate_grad_batches=1.5": "accumulate_grad_batches=1.5 must be a whole number",
    "trainer.gradient_clip_val=-1": "trainer.gradient_clip_val=-1 must be above 0",
    "+trainer.limit_train_batches=0": "trainer.limit_train_batches=0 must be above 0",
    "+trainer.strategy=fsdp": "trainer.strategy=fsdp must be one of auto, ddp",
    "+trainer.max_steps=2": "trainer.max_steps cannot be set: training takes whole epochs",
    "+trainer.limit_val_batches=0": "trainer.limit_val_batches cannot be set: each epoch is",
    "+trainer.check_val_every_n_epoch=2": "trainer.check_val_every_n_epoch cannot be set",
    "+trainer.val_check_interval=0.34": "trainer.val_check_interval cannot be set: each epoch",
    "+trainer.limit_predict_batches=1": "trainer.limit_predict_batches cannot be set: every",
    "+trainer.fast_dev_run=true": "trainer.fast_dev_run cannot be set: for a quick try, use",
    "+trainer.logger=false": "trainer.logger cannot be set: use logger=csv or logger=wandb",
    "+model.generation.max_new_tokens=5": "max_new_tokens cannot be set: use max_new_tokens",
    "+model.generation.num_return_sequences=2": "cannot be set: each question has one answer",
    "+model.generation.temperature=0.5": "model.generation: `temperature`: `do_sample` is not set",
    "model.generation.num_beams=0": "model.generation (num_beams=0) cannot be used: ",
    "model.generation.num_beams=1.5": "model.generation (num_beams=1.5) cannot be used: ",
    "+model.generation.do_sample=true +model.generation.top_p=a": "top_p=a) cannot be used: ",
    "+model.generation.do_sample=true +model.generation.temperature=-1": "strictly positive float",
    "+model.generation.do_sample=maybe": "do_sample=maybe must be true or false",
    "+model.generation.length_penalty=nan": "length_penalty=nan must be a finite number",
    "+model.generation.eos_token_id=x": "eos_token_id=x) cannot be used: ",
    "+model.generation.bad_words_ids=3": "`bad_words_ids` has to be a non-empty list",
    "+model.generation.min_new_tokens=-1": "min_new_tokens=-1 must be at least 0",
    "+model.generation.min_new_tokens=900": "min_new_tokens=900 is more than max_new_tokens=",
    "k_values=[1,2]": "k_values has no effect without k=tune",
    "+mynote=hello": "mynote is no option",
    "+seeds=3": "seeds is no option: did you mean seed?",
    "+training.learning_rate=1": "training.learning_rate is no option",
    "+profile.max_item=1": "profile.max_item is no option: did you mean profile.max_items?",
    "profile.keep=first": "profile.keep has no effect without profile.max_items",
    "training.lora_alpha=8": "training.lora_alpha has no effect without training.lora_rank",
    "training.lora_dropout=0.1": "lora_dropout has no effect without training.lora_rank",
    "+trainer.max_epoch=1": "trainer.max_epoch is no option of Trainer: did you mean max_epochs?",
    "+model.generation.num_beans=4": "is no generation option: did you mean num_beams?",
    "data_dir=~/LaMP": "data_dir=~/LaMP: this shell does not replace ~ there: write $HOME",
    "ckpt=runs/epoch=3.ckpt": "needs quotes inside quotes",
    "retriever=recency": "has none: use split=time",
    "data_dir=nowhere": (
        "no questions at nowhere/LaMP_4/dev/dev_questions.json (there is no folder nowhere)"
    ),
    "model.name=nowhere": "model.name=nowhere: no files could be loaded",
    "trainer.precision=16-mixed": "use trainer.precision=bf16-mixed",
    "model=causal": "model.name must be given",
    "model=openai model.name=x": "cannot be fine-tuned",
    f"model=causal model.name={TINY} augmentation=fid": "only an encoder-decoder model can",
    "model=openai model.name=x mode=zeroshot": "set the environment variable OPENAI_API_KEY",
}


@pytest.mark.parametrize("words", MISTAKES, ids=str)
def test_a_mistake_ends_in_one_clear_line_and_exit_code_2(lamp_exp, words, tmp_path, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    code, out, err = lamp_exp("task=lamp4", *TRAIN, *words.split(" "))
    assert code == 2
    assert out == ""
    lines = [line for line in err.splitlines() if line.startswith("lamp_exp: ")]
    assert len(lines) == 1
    assert MISTAKES[words] in lines[0]
    assert "Traceback" not in err
    assert not list(tmp_path.glob("outputs/lamp*"))


def test_epochs_that_are_cut_are_told(lamp_exp):
    words = ["+trainer.limit_train_batches=1", "training.batch_size=2", "trainer.max_epochs=1"]
    code, out, err = lamp_exp("task=lamp4", "mode=finetune", "limit=6", *QUICK, *words)
    assert code == 0, err
    result = RunFolder(folder_of(out)).read()
    assert "each epoch is cut: trainer.limit_train_batches=1" in result.notes
    assert result.training["optimizer_steps"] == 1


def test_finetuning_without_golds_is_refused_before_any_work(lamp_exp, data_dir):
    row = {"id": "1", "input": f"{Lamp3().instruction} x", "profile": []}
    place = data_dir("LaMP_3", "train", [row])
    data_dir("LaMP_3", "dev", [{**row, "id": "2"}])
    code, _, err = lamp_exp("task=lamp3", f"data_dir={place}", *TRAIN)
    assert code == 2
    assert "mode=finetune needs golds for train" in err


def test_a_user_in_two_parts_of_the_user_split_is_refused(lamp_exp, data_dir):
    row = {"id": "1", "input": f"{Lamp3().instruction} x", "profile": []}
    golds = {"task": "LaMP_3", "golds": [{"id": "1", "output": "5"}]}
    place = data_dir("LaMP_3", "train", [row], golds)
    data_dir("LaMP_3", "dev", [row], golds)
    code, _, err = lamp_exp("task=lamp3", f"data_dir={place}", *TRAIN)
    assert code == 2
    assert "the user split forbids" in err
    assert "'1'" in err


def test_items_dated_after_their_question_are_counted(lamp_exp, data_dir):
    items = [{"id": str(n), "text": "t", "score": "5", "date": f"202{n}"} for n in range(3)]
    row = {"id": "1", "input": f"{Lamp3().instruction} x", "profile": items, "date": "2021-01-01"}
    place = data_dir("LaMP_3", "dev", [row], time=True)
    _, out, _ = lamp_exp("task=lamp3", "split=time", f"data_dir={place}", "mode=rank")
    assert "1 profile item dated after its question" in out


def test_a_run_that_fails_leaves_its_traceback_and_no_result(lamp_exp, tmp_path, monkeypatch):
    from lamp_exp.tasks.lamp4 import Lamp4

    def broken(self: Lamp4, outputs: object, targets: object) -> None:
        raise ZeroDivisionError("broken on purpose")

    monkeypatch.setattr(Lamp4, "score", broken)
    code, out, err = lamp_exp("-m", "task=lamp4,lamp3", "mode=zeroshot", "limit=2", *QUICK)
    assert code == 2
    assert "FAILED lamp4-user-dev-zeroshot" in err
    assert "done lamp3-user-dev-zeroshot" in err  # the other job went on
    assert "ZeroDivisionError: broken on purpose" in out
    (folder,) = tmp_path.glob("outputs/lamp4*")
    assert f"traceback: {folder.relative_to(tmp_path)}/run.log" in " ".join(out.split())
    assert not RunFolder(folder).finished
    assert "broken on purpose" in (folder / "run.log").read_text()


def test_help_names_every_group():
    told = subprocess.run(
        [sys.executable, "-m", "lamp_exp", "--help"], capture_output=True, text=True
    )
    assert told.returncode == 0
    for name in ("retriever:", "bm25_okapi", "augmentation:", "fid", "logger:", "data_dir"):
        assert name in told.stdout


def test_without_any_option_it_says_how_to_start(lamp_exp, tmp_path: Path):
    code, out, _ = lamp_exp()
    assert code == 0
    assert "-m experiment=first k=0,4" in out
    assert not list(tmp_path.iterdir()), "nothing is run"


def test_a_misspelt_command_is_explained(lamp_exp):
    code, _, err = lamp_exp("option")
    assert code == 2
    assert err == (
        "lamp_exp: option is no command: did you mean options?; commands are options, "
        "experiments, help, and options are given as name=value\n"
    )


def test_flags_may_stand_between_options():
    words = "k=4 --config-dir my/a=b retriever=tfidf -m seed=0,1 ~training.lr --cfg job"
    first = ["k=4", "retriever=tfidf", "seed=0,1", "~training.lr"]
    assert options_first(words.split()) == [*first, "--config-dir", "my/a=b", "-m", "--cfg", "job"]


@pytest.mark.parametrize("word", ["--k", "-k", "--k=4", "--retriever", "--trainer.max_epochs"])
def test_an_option_with_dashes_is_explained(lamp_exp, word):
    name = word.strip("-").partition("=")[0]
    code, _, err = lamp_exp("mode=rank", word, "4")
    assert (code, err) == (2, f"lamp_exp: {word}: options have no dashes: {name}=4\n")


def test_help_names_the_lists(tmp_path: Path):
    words = [sys.executable, "-m", "lamp_exp", "-h"]
    told = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert "python -m lamp_exp options " in told and "retriever: bm25, bm25_okapi" in told


def test_on_a_narrow_screen_no_name_of_an_option_is_broken(monkeypatch, capsys):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "40")
    show_options()
    words = set(capsys.readouterr().out.replace(",", " ").split())
    assert {name.partition("=")[0] for name in words} >= {*GROUPS, *OPTIONS}
    assert {"recent_and_similar", "user_vector_fresh", "flan_t5_base"} <= words


def test_all_options_are_listed(lamp_exp):
    code, out, _ = lamp_exp("options")
    assert code == 0
    for name in (*GROUPS, *OPTIONS):
        assert f" {name} " in out
    for name in options("retriever"):
        assert name in out


def test_named_experiments_and_sweeps_are_listed_with_what_they_are(lamp_exp):
    code, out, _ = lamp_exp("experiments")
    assert code == 0
    for group in ("experiment", "sweep"):
        for name in options(group):
            assert f" {name} " in out
            assert len(description_of(group, name)) > 30


@pytest.mark.parametrize("name", options("experiment"))
def test_a_named_experiment_can_be_run(lamp_exp, name):
    """As far as that shows without its model and data; `cold_start` is a sweep."""
    sweep = ["-m"] if name == "cold_start" else []
    code, out, err = lamp_exp(*sweep, f"experiment={name}", "dry_run=true", "limit=4")
    assert code == 0, err
    assert "to do" in out


def test_cold_start_is_a_baseline_and_five_sizes_of_profiles(lamp_exp):
    code, out, err = lamp_exp("-m", "experiment=cold_start", "dry_run=true", "limit=4")
    assert code == 0, err
    assert out.count("to do") == 6 + 1, "six jobs, and their sum"

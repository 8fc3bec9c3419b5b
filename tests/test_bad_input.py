"""Mistakes and surroundings that a user may have: one clear line, or it works."""

from __future__ import annotations

import codecs
import json
import math
import os
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

from lamp_exp.data import load
from lamp_exp.data.__main__ import main as data_verb
from lamp_exp.data.completeness import check_complete
from lamp_exp.environment import is_interrupt
from lamp_exp.report.__main__ import main as report_verb
from lamp_exp.results.folder import RunFolder
from lamp_exp.score import main as score
from lamp_exp.tasks.lamp1 import Lamp1
from lamp_exp.tasks.lamp4 import Lamp4
from tests.conftest import recorded, settings
from tests.test_cli import folder_of

ZERO = ["mode=zeroshot", "model=tiny", "trainer=cpu", "trainer.enable_progress_bar=false"]
PYTHON = [sys.executable, "-m", "lamp_exp"]


def test_an_empty_questions_file_is_refused(lamp_exp, data_dir):
    place = data_dir("LaMP_4", "dev", [])
    code, out, err = lamp_exp("task=lamp4", f"data_dir={place}", "mode=rank")
    assert (code, out) == (2, "")
    assert err.endswith("dev_questions.json holds no questions\n")


@pytest.mark.parametrize("task", ["lamp1", "lamp4", "lamp3"])
def test_a_length_that_cuts_off_the_instruction_is_refused(lamp_exp, task):
    code, _, err = lamp_exp(f"task={task}", *ZERO, "max_length=5", "limit=2")
    assert code == 2
    assert "max_length=5 cuts off the instruction of LaMP_" in err


EARLY = {
    "+trainer.max_steps=2": "trainer.max_steps cannot be set: training takes whole epochs",
    "+mynote=hello": "mynote is no option",
    "data_dir=nowhere model=tiny": "no questions at nowhere/LaMP_4/dev/dev_questions.json",
    "model.name=/nonexist": "model.name=/nonexist: there is no such folder",
    "model=tiny retriever=minilm retriever.name=./no": "retriever.name=./no: there is no",
    "model.decoding=label": "model.decoding=label must be one of",
    "model=causal model.name=x augmentation=fid": "augmentation=fid reads several passages apart",
    "model=openai model.name=x augmentation=fid": "augmentation=fid reads several passages apart",
    "+model.generation.max_new_tokens=5": "max_new_tokens cannot be set: use max_new_tokens",
    "model=causal model.name=x +model.generation.num_beans=2": "did you mean num_beams?",
    "model.name=a/b": "model.name=a/b: no files could be loaded from it: it is not on this machine",
    "model=tiny retriever=rrf retriever.of.contriever.name=a/b": (
        "it is not on this machine, and the hub does not answer: give a local folder, "
        "retriever.of.contriever.name=FOLDER"
    ),
}


@pytest.mark.long
@pytest.mark.parametrize("words", EARLY)
def test_it_is_refused_before_the_model_is_imported(tmp_path, words):
    code = (
        f"import sys; sys.argv = ['lamp_exp', *{words.split()}]\n"
        "from lamp_exp.__main__ import main\n"
        "try: main()\n"
        "except SystemExit as end: print(end.code, 'torch' in sys.modules)"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert run.stdout == "2 False\n", run.stderr
    assert EARLY[words] in run.stderr


def test_a_misspelt_decoding_is_refused_with_the_choices(lamp_exp):
    code, _, err = lamp_exp("task=lamp1", *ZERO, "model.decoding=label")
    assert code == 2
    assert "model.decoding=label must be one of free, labels, likelihood" in err


def test_what_scoring_needs_is_loaded_before_any_work(lamp_exp, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "rouge_score.rouge_scorer", None)
    from lamp_exp import metrics

    metrics._rouge_scorer.cache_clear()
    code, _, _ = lamp_exp("task=lamp4", *ZERO, "limit=2")
    assert code == 2
    assert not list(tmp_path.glob("outputs/lamp4*"))


@pytest.mark.process
@pytest.mark.parametrize("encoding", ["ascii", pytest.param("latin-1", marks=pytest.mark.slow)])
def test_a_terminal_of_another_encoding_is_no_failure(tmp_path, encoding):
    run = subprocess.run(
        [*PYTHON, *ZERO, "task=lamp4", "limit=2", "k=1", "max_new_tokens=4"],
        capture_output=True, cwd=tmp_path, check=False,
        env={**os.environ, "PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"},
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert (tmp_path / run.stdout.decode(encoding).splitlines()[-1] / "result.json").is_file()


WITHOUT_A_HOME = """
import os, pwd, sys

def unknown(user):
    raise KeyError(user)

del os.environ["HOME"]
pwd.getpwuid = unknown
sys.argv[1:] = ["mode=rank", "limit=2"]
from lamp_exp.__main__ import main

main()
from lamp_exp.tasks.lamp4 import Lamp4

print(Lamp4().score(["a"], ["a"]).metrics)
"""


@pytest.mark.long
def test_a_user_without_a_home_can_score(tmp_path):
    """A container's user may have neither HOME nor an entry in the list of users."""
    run = subprocess.run(
        [sys.executable, "-c", WITHOUT_A_HOME], capture_output=True, text=True, cwd=tmp_path,
        env={**os.environ, "HOME": "unused"}, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert "'rouge_1': 1.0" in run.stdout


def test_outputs_that_are_all_invalid_are_shown(lamp_exp):
    code, out, _ = lamp_exp("task=lamp2", *ZERO, "limit=2", "k=0", "max_new_tokens=3")
    assert code == 0
    assert "no output is a valid answer; the first is: " in out
    assert "model.decoding=labels writes labels only" in out


@pytest.mark.parametrize("words", [0, 30])
def test_unknown_tokens_are_a_warning_on_screen_and_in_tables(lamp_exp, report, data_dir, words):
    row = {"id": "1", "input": "Generate a headline for the following article: "
           + "\u4f60\u597d " * words, "profile": []}  # fmt: skip
    golds = {"task": "LaMP_4", "golds": [{"id": "1", "output": "the rose"}]}
    place = data_dir("LaMP_4", "dev", [row], golds)
    _, out, _ = lamp_exp("task=lamp4", *ZERO, f"data_dir={place}", "k=1", "max_new_tokens=4")
    line = "unknown tokens in prompts: is it the right tokenizer for these data?"
    assert (line in out) == (words > 0)
    _, out, _ = report("table", "--rows", "metric", "--format", "csv")
    assert (f"in 1 of 1 run: {line}" in out) == (words > 0)


@pytest.mark.long
def test_the_models_own_generation_options_are_told(lamp_exp, report, tmp_path):
    from lamp_exp.models.seq2seq import Seq2Seq

    made = Seq2Seq(None, settings(), {}, fresh={"d_model": 16, "num_heads": 2, "d_kv": 8})
    made.configure_model()
    made.net.generation_config.repetition_penalty = 1.5
    for saved in (made.net, made.tokenizer):
        saved.save_pretrained(tmp_path / "own")
    words = [*ZERO, "limit=2", "k=1", "max_new_tokens=8"]
    code, out, err = lamp_exp("task=lamp4", *words, f"model.name={tmp_path}/own")
    assert code == 0, err
    line = "the model's own generation_config.json sets repetition_penalty=1.5"
    assert line in out
    _, out, _ = report("table", "--rows", "metric", "--format", "csv")
    assert f"in 1 of 1 run: {line}" in out
    options = ["model.decoding=labels", "+model.generation.repetition_penalty=2.0"]
    for task, option in zip(("lamp2", "lamp4"), options, strict=True):
        _, out, _ = lamp_exp(f"task={task}", *words, f"model.name={tmp_path}/own", option)
        assert "generation_config" not in out


def test_the_batch_size_changes_no_sample(lamp_exp):
    words = [
        "task=lamp4",
        *ZERO,
        "limit=12",
        "max_new_tokens=8",
        "+model.generation.do_sample=true",
    ]
    told = []
    for size in (16, 3):
        code, out, err = lamp_exp(*words, f"predict_batch_size={size}", f"output_dir=by{size}")
        assert code == 0, err
        told.append((folder_of(out) / "predictions.json").read_bytes())
    assert told[0] == told[1]


def test_questions_that_are_in_their_own_profile_are_named(lamp_exp, data_dir):
    input = (
        'For an author who has written the paper with the title "Mine", which reference is '
        'related? Just answer with [1] or [2] without explanation. [1]: "A" [2]: "B"'
    )
    assert Lamp1().follows_template(input)
    rows = [
        {"id": str(n), "input": input, "profile": [{"id": "i", "title": title, "abstract": "x"}]}
        for n, title in enumerate(["mine", "another", "MINE"])
    ]
    place = data_dir("LaMP_1", "dev", rows)
    _, out, _ = lamp_exp("task=lamp1", f"data_dir={place}", "mode=rank")
    result = RunFolder(folder_of(out)).read()
    assert result.flagged_questions == {"profiles_that_hold_the_question": ("0", "2")}
    assert json.loads((folder_of(out) / "result.json").read_text())["flagged_questions"]
    log = (folder_of(out) / "run.log").read_text()
    assert "the profile holds the question itself: 0, 2" in log


def asked(id: str = "1", **changes: object) -> dict[str, object]:
    item = {"id": "i", "text": "alpha", "title": "A", **changes}
    return {
        "id": id,
        "input": "Generate a headline for the following article: x",
        "profile": [item],
    }


def outputs(*ids: str, output: object = "gold") -> dict[str, object]:
    return {"task": "LaMP_4", "golds": [{"id": id, "output": output} for id in ids]}


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_numbers_that_json_lacks_are_null(lamp_exp, data_dir, capsys, number):
    rows = [asked(text=number, title=number)]
    place = data_dir("LaMP_4", "dev", rows)
    prompts = ["task=lamp4", "mode=prompts", "model=tiny", "k=1", f"data_dir={place}"]
    code, out, _ = lamp_exp(*prompts)
    assert code == 0
    assert "in dev: 2 profile fields that are null (or NaN), read as empty texts" in out
    (row,) = map(json.loads, (folder_of(out) / "prompts.jsonl").read_text().splitlines())
    assert row["passages"][0].startswith('"" is the title for "" . Generate')
    data_dir("LaMP_4", "dev", rows, outputs("1", output=number))
    code, _, err = lamp_exp(*prompts)
    assert code == 2 and "gold 1 (id '1'): its `output` must be text" in err
    assert data_verb(["check", "--data-dir", str(place)]) == 1
    found = capsys.readouterr().out
    assert "2 │ fields_null" in found and "1 │ golds_malformed" in found


def test_numbers_are_read_as_they_are_spelt(data_dir):
    place = data_dir("LaMP_4", "dev", [asked(text=1984, title="NUMBER")], outputs("1"))
    for file in place.rglob("*.json"):
        file.write_text(file.read_text().replace('"NUMBER"', "1.10").replace('"gold"', "2.50"))
    (example,) = load(str(place), Lamp4(), "user", "dev").examples
    assert example.profile[0].fields == {"text": "1984", "title": "1.10"}
    assert example.target == "2.50"


@pytest.mark.parametrize(
    "date",
    [
        2012.5, "2012.5", "2012.05", "2012/05-09", "2013-05-10T08:00+02:00",
        "2013-05-10 08:00:00.1234567", "\u0662\u0660\u0661\u0662", "20130509",
    ],
)  # fmt: skip
def test_a_date_whose_meaning_is_not_plain_is_refused(lamp_exp, data_dir, date):
    place = data_dir("LaMP_4", "dev", [asked(date=date)], time=True)
    rank = ["task=lamp4", "mode=rank", "retriever=recency", "split=time", f"data_dir={place}"]
    code, out, err = lamp_exp(*rank)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "dev_questions.json: question 1 (id '1'): profile item 1 (id 'i'): " in err
    assert data_verb(["check", "--data-dir", str(place)]) == 1
    code, _, err = lamp_exp("task=lamp4", "mode=rank", "split=time", f'profile.before="{date}"')
    assert code == 2 and f"profile.before={date}" in err


def test_a_byte_order_mark_is_passed_over(lamp_exp, data_dir, capsys):
    place = data_dir("LaMP_4", "dev", [asked()], outputs("1"))
    files = [place / "LaMP_4/dev" / f"dev_{kind}.json" for kind in ("questions", "outputs")]
    for file in files:
        file.write_bytes(codecs.BOM_UTF8 + file.read_bytes())
    assert lamp_exp("task=lamp4", "mode=rank", f"data_dir={place}")[0] == 0
    assert data_verb(["check", "--data-dir", str(place)]) == 0
    assert score([str(files[1]), str(files[1])]) == 0
    with zipfile.ZipFile("sent.zip", "w") as archive:
        archive.write(files[1], "LaMP_4.json")
    given = ["import", "sent.zip", "--name", "x", "--data-dir", str(place)]
    assert report_verb(given) == 0
    check_complete(files[0])
    check_complete(files[1])
    capsys.readouterr()


@pytest.mark.parametrize("named", [False, True])
def test_ids_that_start_again_in_each_part_are_explained(lamp_exp, data_dir, capsys, named):
    for part in ("train", "dev"):
        rows = [{**asked(id), **({"user_id": f"u{id}"} if named else {})} for id in "1234"]
        place = data_dir("LaMP_4", part, rows, outputs(*"1234"))
    code, _, err = lamp_exp("task=lamp4", "model=tiny", "trainer=cpu", f"data_dir={place}")
    assert (code, err.count("\n")) == (2, 1)
    assert "4 users of" in err and f"(such as '{'u' if named else ''}1')" in err
    assert ("named by the question's id: add `user_id` to all questions" in err) is not named
    data_verb(["check", "--data-dir", str(place), "--json", "-"])
    (found,) = (
        finding for file in json.loads(capsys.readouterr().out)["files"]
        for finding in file["findings"] if finding["code"] == "users_shared"
    )  # fmt: skip
    assert found["count"] == 4 and "add `user_id`" in found["meaning"]


def test_a_sample_written_as_files_is_known_as_one(lamp_exp, report, capsys):
    assert data_verb(["sample", "--out", "made", "--task", "lamp4", "--questions", "3"]) == 0
    run = ["task=lamp4", "data_dir=made", "part=test", *ZERO, "max_new_tokens=2", "k=1"]
    code, out, _ = lamp_exp(*run)
    assert code == 0 and "(made-up sample, 3 questions)" in out
    assert recorded(folder_of(out))["made_up_data"] is True
    assert report("leaderboard", "--out", "sent")[0] == 2
    code, out, _ = report("leaderboard", "--out", "sent", "--allow-sample")
    assert code == 0 and "MADE-UP SAMPLE, 3 questions" in out
    predictions = str(next(Path("outputs").glob("lamp4*/predictions.json")))
    given = ["import", predictions, "--name", "x", "--part", "test", "--data-dir", "made"]
    code, out, _ = report(*given)
    assert code == 0 and recorded(folder_of(out))["made_up_data"] is True
    data_verb(["check", "--data-dir", "made", "--json", "-"])
    files = json.loads(capsys.readouterr().out)["files"]
    counts = [{f["code"]: f["count"] for f in file["findings"]} for file in files]
    assert [one["questions_made_up"] for one in counts] == [3] * 6


def test_lightnings_exit_after_an_interrupt_is_one():
    try:
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt:
            sys.exit(1)
    except SystemExit as error:
        assert is_interrupt(error)
    assert not is_interrupt(SystemExit(1))
    assert is_interrupt(KeyboardInterrupt())


@pytest.mark.process
def test_an_interrupted_run_ends_in_one_line(tmp_path: Path):
    command = [*PYTHON, "experiment=first", "k=1", "trainer.enable_progress_bar=false"]
    process = subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob("outputs/lamp4*/training/metrics.csv")):
        assert time.monotonic() < deadline
        assert process.poll() is None, process.communicate()
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert err.splitlines()[-1] == "lamp_exp: interrupted: the same command goes on from here"
    assert err.count("interrupt") == 1
    assert "Traceback" not in err


def test_the_interpreter_searches_no_garbage_at_its_end():
    """With the libraries of models that takes seconds, also after Ctrl-C."""
    code = (
        "import gc, atexit; atexit.register(lambda: print(gc.get_freeze_count() > 1000))\n"
        "from lamp_exp.environment import prepare_process; prepare_process(); prepare_process()\n"
        "print(gc.get_freeze_count())"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ended.stdout.split() == ["0", "True"]


EXPERIMENTS = {
    "nopackage": "k: 2\nseed: 7\n",
    "broken": "# @package _global_\nk: [2\nseed: 7\n",
    "misspelt": "# @package _global_\nkk: 2\n",
}
LINES = {
    "-m --cfg job": "-m and --cfg exclude each other",
    "--hydra-help task=lamp4": "--hydra-help takes no options",
    "+experiment=first": "experiment has a default: set it without a plus",
    "lr=3": "lr is no option: did you mean training.lr?",
    "own_items=remove": "own_items is no option: did you mean profile.own_items?",
    "experiment=frist": "(did you mean first?)",
    "-m +sweep=tabel2": "(did you mean table2?)",
    "-m adapter=none,user_lora adapter.lr=1": (
        "in a sweep, 'adapter.lr=choice(VALUE)' reaches the jobs that have it"
    ),
    "-m retriever=random,none retriever.k1=1.2,1.5": "is no option of the retriever that was",
    "experiment=nopackage": "lacks its first line `# @package _global_`",
    "experiment=broken": "broken YAML: while parsing a flow sequence",
    "experiment=misspelt": "experiment/misspelt.yaml: kk is no option: did you mean k?",
}


@pytest.mark.long
@pytest.mark.parametrize("words", LINES)
def test_a_command_that_hydra_refuses_ends_in_one_line(words, tmp_path):
    folder = tmp_path / "conf" / "experiment"
    folder.mkdir(parents=True)
    for name, text in EXPERIMENTS.items():
        (folder / f"{name}.yaml").write_text(text)
    run = subprocess.run(
        [*PYTHON, "--config-dir", "conf", *words.split()],
        capture_output=True, text=True, cwd=tmp_path, check=False,
    )  # fmt: skip
    assert run.returncode == 2
    lines = run.stderr.strip().splitlines()
    assert len(lines) == 1, run.stderr
    assert lines[0].startswith("lamp_exp: ")
    assert LINES[words] in lines[0]

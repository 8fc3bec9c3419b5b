"""The encoder-decoder: Fusion-in-Decoder, training, selection, saving."""

from __future__ import annotations

import functools
import inspect
import json
import math
from pathlib import Path
from types import SimpleNamespace

import pytest
import pytorch_lightning
import torch
import transformers
from omegaconf import open_dict
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

from lamp_exp import config_checks
from lamp_exp.errors import InputError
from lamp_exp.models.checkpoints import best_checkpoint, best_epoch
from lamp_exp.models.prediction import GENERATION_OPTIONS
from lamp_exp.models.seq2seq import Seq2Seq
from lamp_exp.models.training import IGNORED
from lamp_exp.options import FIXED_TRAINER_OPTIONS
from lamp_exp.tasks.lamp4 import Lamp4
from lamp_exp.values import Prompt, TrainingOptions, TrainingSet
from tests.conftest import compose, mean_loss, settings, trainer

SIZES = {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4, "dropout_rate": 0.1}
TEXTS = ["the old rose near lake", "the sailor meets the nurse", "the oven"]


def model(
    generation: dict[str, object] | None = None, name: str | None = None, **changes
) -> Seq2Seq:
    made = Seq2Seq(name, settings(**changes), generation or {"num_beams": 1}, fresh=SIZES)
    made.configure_model()
    return made.eval()


def prompt(id: str, *passages: str) -> Prompt:
    return Prompt(id, passages, tokens=sum(len(text.split()) for text in passages))


def lesson(folder: Path, epochs: int = 1, count: int = 12) -> TrainingSet:
    pairs = [(prompt(str(n), TEXTS[n % 3], TEXTS[(n + 1) % 3]), "the rose") for n in range(count)]
    return TrainingSet(pairs, pairs[:5], Lamp4().score, Lamp4().main_metric, epochs, folder)


@torch.no_grad()
def test_one_passage_is_plain_t5():
    fid = model()
    batch = fid.collate([prompt("a", TEXTS[0]), prompt("b", TEXTS[1])], ["the rose", "sailor"])
    plain = fid.tokenizer(TEXTS[:2], padding=True, return_tensors="pt")
    expected = fid.net(**plain, labels=batch["labels"]).loss
    assert mean_loss(fid, batch) == pytest.approx(expected.item(), abs=1e-6)
    for beams in (1, 4):
        fid.generation["num_beams"] = beams
        answers = fid.net.generate(**plain, max_new_tokens=8, num_beams=beams)
        assert fid.generate(batch).tolist() == answers[:, 1:].tolist()


ENDS = {"pad_token_id": 0, "eos_token_id": 1, "decoder_start_token_id": 2}
SMALL = ENDS | {
    "d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2,
    "decoder_attention_heads": 2, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16,
}  # fmt: skip
PROPHET = ENDS | {
    "hidden_size": 16, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16, "num_encoder_layers": 1,
    "num_decoder_layers": 1, "num_encoder_attention_heads": 2, "num_decoder_attention_heads": 2,
    "use_cache": False,
}  # fmt: skip
ODD = {  # networks that make the decoder's input of labels, or the logits, in their own way
    "Bart": SMALL, "BlenderbotSmall": SMALL, "M2M100": SMALL, "ProphetNet": PROPHET,
    "T5": ENDS | SIZES | {"tie_word_embeddings": True},
}  # fmt: skip


@torch.no_grad()
@pytest.mark.parametrize("kind", ODD)
def test_the_logits_of_labels_are_the_network_s_own(kind: str):
    fid = model()
    words = len(fid.tokenizer)
    config = getattr(transformers, f"{kind}Config")(**ODD[kind], vocab_size=words)
    fid.network = getattr(transformers, f"{kind}ForConditionalGeneration")(config).eval()
    batch = fid.collate([prompt("a", TEXTS[0]), prompt("b", TEXTS[1])], ["the rose", "sailor"])
    plain = fid.tokenizer(TEXTS[:2], padding=True, return_tensors="pt")
    logits, labels = fid.logits(batch)
    expected = fid.net(**plain, labels=batch["labels"]).logits
    wanted = batch["labels"] != IGNORED
    assert labels.tolist() == batch["labels"][wanted].tolist()
    assert torch.allclose(logits, expected[wanted], atol=1e-5)


@torch.no_grad()
def test_an_absent_passage_is_all_masked_and_changes_nothing():
    fid = model()
    alone = fid.collate([prompt("a", TEXTS[0])])
    mixed = fid.collate([prompt("a", TEXTS[0]), prompt("b", *TEXTS)])
    assert mixed["input_ids"].shape[:2] == (2, 3)
    assert mixed["attention_mask"][0, 1:].sum() == 0
    states, mask = fid.encode(mixed)
    expected, own = fid.encode(alone)
    read = states[0][mask[0].bool()]
    assert torch.allclose(read, expected[0][own[0].bool()], atol=1e-6)


@torch.no_grad()
def test_the_order_of_passages_does_not_matter_but_their_content_does():
    fid = model()
    labels = ["the rose"]
    one = mean_loss(fid, fid.collate([prompt("a", *TEXTS)], labels))
    other = mean_loss(fid, fid.collate([prompt("a", *TEXTS[::-1])], labels))
    third = mean_loss(fid, fid.collate([prompt("a", TEXTS[0], TEXTS[0], TEXTS[2])], labels))
    assert one == pytest.approx(other, abs=1e-5)
    assert abs(one - third) > 1e-5


@pytest.mark.parametrize("beams", [1, 4])
def test_batch_mates_and_batch_size_change_no_output(beams):
    prompts = [prompt(str(n), *TEXTS[: n % 3 + 1], TEXTS[0] * (n + 1)) for n in range(7)]
    told = []
    for size in (1, 3, 7):
        fid = model({"num_beams": beams}, predict_batch_size=size)
        told.append([(p.id, p.output) for p in fid.predict(prompts, trainer)])
        assert [id for id, _ in told[-1]] == [p.id for p in prompts]
    assert told[0] == told[1] == told[2]
    backwards = model({"num_beams": beams}).predict(prompts[::-1], trainer)
    assert [(p.id, p.output) for p in backwards] == told[0][::-1]


def test_an_output_that_never_ends_has_the_asked_length_and_is_counted():
    fid = model({"num_beams": 1, "suppress_tokens": [1]}, max_new_tokens=64)
    (answer,) = fid.predict([prompt("a", TEXTS[0])], trainer)
    assert answer.tokens == 64
    assert answer.capped
    assert fid.facts()["generation"]["max_new_tokens"] == 64


def test_a_misspelt_generation_option_is_refused_with_the_right_name():
    with pytest.raises(
        InputError, match="num_beans is no generation option: did you mean num_beams"
    ):
        Seq2Seq(None, settings(), {"num_beans": 4}, fresh=SIZES)


def test_labels_are_padded_with_what_the_loss_ignores(tmp_path: Path):
    fid = model()
    batch = fid.collate([prompt("a", "x"), prompt("b", "x")], ["the rose near the lake", "rose"])
    assert (batch["labels"][1] == IGNORED).any()
    assert not (batch["labels"] == fid.tokenizer.pad_token_id).any()
    report = fid.fit(lesson(tmp_path), trainer)  # dev is decoded from targets of unequal length
    assert len(report["epochs"]) == 1


def test_fp16_is_refused_before_it_overflows():
    for precision in ("16-mixed", "16-true", "16"):
        with pytest.raises(InputError, match="bf16"):
            model().validate(True, precision)
    model().validate(True, "bf16-mixed")
    model().validate(True, "32-true")


def test_training_is_in_train_mode_and_prediction_in_eval_mode(tmp_path: Path):
    modes = []

    class Watched(Seq2Seq):
        def loss(self, batch):
            modes.append(("loss", self.net.training))
            return super().loss(batch)

        def generate(self, batch):
            modes.append(("generate", self.net.training))
            return super().generate(batch)

    fid = Watched(None, settings(), {"num_beams": 1}, fresh=SIZES)
    fid.fit(lesson(tmp_path), trainer)
    fid.predict([prompt("a", "x")], trainer)
    assert set(modes) == {("loss", True), ("generate", False)}


def test_the_same_seed_gives_the_same_training(tmp_path: Path):
    losses = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        fid = Seq2Seq(None, settings(seed=seed), {"num_beams": 1}, fresh=SIZES)
        report = fid.fit(lesson(tmp_path / name, epochs=2), trainer)
        losses.append([epoch["train_loss"] for epoch in report["epochs"]])
    assert losses[0] == losses[1] != losses[2]


def test_the_loss_falls_and_steps_are_recorded(tmp_path: Path):
    training = TrainingOptions(lr=1e-2, batch_size=4)
    fid = Seq2Seq(None, settings(training=training), {"num_beams": 1}, fresh=SIZES)
    report = fid.fit(
        lesson(tmp_path, epochs=8), functools.partial(trainer, accumulate_grad_batches=2)
    )
    losses = [epoch["train_loss"] for epoch in report["epochs"]]
    assert losses[-1] < losses[0] / 2
    assert report["optimizer_steps"] == 8 * 2
    assert report["effective_batch_size"] == 8
    assert report["train_targets_cut"] == 0


def test_targets_longer_than_the_answer_may_be_are_counted(tmp_path: Path):
    fid = model(max_new_tokens=2)
    assert fid.fit(lesson(tmp_path), trainer)["train_targets_cut"] == 12


def test_the_checkpoint_loads_back_with_the_same_answers_and_tied_embeddings(tmp_path: Path):
    fid = Seq2Seq(None, settings(), {"num_beams": 1}, fresh=SIZES)
    fid.fit(lesson(tmp_path), trainer)
    folder = tmp_path / "checkpoint"
    again = Seq2Seq(str(folder), settings(), {"num_beams": 1}, fresh=SIZES)
    again.configure_model()
    again.eval()
    assert again.facts()["weights"] == str(folder)
    batch = fid.collate([prompt("a", *TEXTS)], ["the rose"])
    fid.eval()
    with torch.no_grad():
        assert mean_loss(again, batch) == mean_loss(fid, batch)
    loaded, info = AutoModelForSeq2SeqLM.from_pretrained(folder, output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    assert loaded.shared.weight is loaded.encoder.embed_tokens.weight
    assert len(AutoTokenizer.from_pretrained(folder)) == len(fid.tokenizer)
    left = [path.name for path in tmp_path.rglob("*")]
    assert not any("=" in name or name.endswith(".ckpt") for name in left)


def test_the_best_epoch_is_kept_even_after_a_score_that_is_no_number(tmp_path: Path):
    values = iter([math.nan, 0.3, 0.5, math.nan, 0.1])

    class Scored(Seq2Seq):
        def on_validation_epoch_end(self) -> None:
            self._outputs.clear()
            value = next(values)
            self.log("rouge_1", value)
            self.history.append({"train_loss": 0.0, "rouge_1": value})
            kept.append({name: tensor.clone() for name, tensor in self.state_dict().items()})

    kept: list[dict[str, torch.Tensor]] = []
    fid = Scored(None, settings(training=TrainingOptions(lr=1e-2)), {"num_beams": 1}, fresh=SIZES)
    report = fid.fit(lesson(tmp_path, epochs=5), trainer)
    assert report["best_epoch"] == 3
    best = kept[2]
    assert all(torch.equal(tensor, best[name]) for name, tensor in fid.state_dict().items())


@pytest.mark.parametrize(("mode", "best"), [("max", 3), ("min", 2)])
def test_the_first_of_the_best_epochs_counts(mode, best):
    scores = [math.nan, 0.3, 0.5, 0.5]
    history = [{"x": score} for score in scores]
    metric = SimpleNamespace(name="x", higher_is_better=mode == "max")
    assert best_epoch(history, metric) == best
    assert best_epoch(history[:1], metric) is None


def test_a_loss_that_is_no_number_ends_the_run_with_its_step(tmp_path: Path):
    class Broken(Seq2Seq):
        def loss(self, batch):
            loss, tokens = super().loss(batch)
            return (loss * math.nan if self.trainer.global_step == 1 else loss), tokens

    fid = Broken(
        None, settings(training=TrainingOptions(batch_size=4)), {"num_beams": 1}, fresh=SIZES
    )
    with pytest.raises(InputError, match="loss became nan at step 1"):
        fid.fit(lesson(tmp_path), trainer)


def test_memory_that_will_not_suffice_shows_before_the_first_step(tmp_path: Path):
    class Large(Seq2Seq):
        def loss(self, batch):
            raise torch.OutOfMemoryError("out of memory")

    fid = Large(
        None, settings(training=TrainingOptions(batch_size=4)), {"num_beams": 1}, fresh=SIZES
    )
    with pytest.raises(InputError, match="4 examples x 2 passages x up to 64 tokens"):
        fid.fit(lesson(tmp_path), trainer)
    assert fid.trainer.global_step == 0


def test_the_rehearsal_is_the_worst_batch_in_the_precision_of_the_steps(tmp_path):
    seen = []

    class Watched(Seq2Seq):
        def loss(self, batch):
            shape = batch["input_ids"].shape[1], batch["labels"].shape[1]
            seen.append((*shape, torch.is_autocast_enabled("cpu")))
            return super().loss(batch)

    one, many = prompt("a", TEXTS[0] * 9), prompt("b", *TEXTS)
    pairs = [(one, "the"), (many, "the"), (one, "the rose near the rose")]
    whole = TrainingSet(pairs, pairs[:1], Lamp4().score, Lamp4().main_metric, 1, tmp_path)
    fid = Watched(
        None, settings(training=TrainingOptions(batch_size=1)), {"num_beams": 1}, fresh=SIZES
    )
    fid.fit(whole, functools.partial(trainer, precision="bf16-mixed"))
    rehearsed, *steps = seen
    assert all(rehearsed[0] >= step[0] and rehearsed[1] >= step[1] for step in steps)
    assert {step[2] for step in seen} == {True}


@pytest.mark.parametrize(("batch_size", "batches"), [(4, 2), (2, 4), (1, 8)])
def test_tokens_weigh_alike_over_the_whole_optimiser_step(tmp_path: Path, batch_size, batches):
    targets = ["rose", "the old rose near lake the sailor meets the nurse the oven"]
    pairs = [(prompt(str(n), TEXTS[n % 3]), targets[n % 2]) for n in range(13)]  # 8 and 5

    def trained(size: int, accumulated: int) -> tuple[list[float], dict[str, torch.Tensor]]:
        training = TrainingOptions(lr=1e-2, batch_size=size)
        sizes = {**SIZES, "dropout_rate": 0.0}
        made = Seq2Seq(None, settings(training=training, max_new_tokens=16), {}, fresh=sizes)
        folder = tmp_path / str(size)
        data = TrainingSet(pairs, pairs[:2], Lamp4().score, Lamp4().main_metric, 2, folder)
        options = {"accumulate_grad_batches": accumulated, "gradient_clip_val": 1.0}
        report = made.fit(data, functools.partial(trainer, **options))
        assert report["optimizer_steps"] == 4
        assert report["effective_batch_size"] == 8
        return [epoch["train_loss"] for epoch in report["epochs"]], made.net.state_dict()

    losses, weights = trained(8, 1)
    other_losses, other_weights = trained(batch_size, batches)
    assert other_losses == pytest.approx(losses, rel=1e-6)
    for name, weight in weights.items():
        assert torch.allclose(other_weights[name], weight, rtol=0, atol=1e-5), name


OFFICIAL = {  # kinds of networks whose norms and biases are named otherwise
    "T5ForConditionalGeneration": transformers.T5Config(**SIZES, vocab_size=99),
    "BartForConditionalGeneration": transformers.BartConfig(**SMALL, vocab_size=99),
    "GPT2LMHeadModel": transformers.GPT2Config(n_layer=1, n_embd=8, n_head=2, vocab_size=99),
    "LlamaForCausalLM": transformers.LlamaConfig(
        num_hidden_layers=1, hidden_size=8, intermediate_size=8, num_attention_heads=2,
        vocab_size=99,
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", OFFICIAL)
def test_the_weights_that_decay_are_those_of_the_official_trainer(kind: str):
    fid = Seq2Seq(None, settings(), {}, fresh=SIZES)
    fid.network = getattr(transformers, kind)(OFFICIAL[kind])
    names = {weight: name for name, weight in fid.net.named_parameters()}
    decayed, others = fid._weights_by_decay()
    official = transformers.Trainer.get_decay_parameter_names(None, fid.net)
    assert {names[weight] for weight in decayed} == set(official) & set(names.values())
    assert {names[weight] for weight in others} == set(names.values()) - set(official)
    assert others


def test_the_recipe_is_recorded_and_warm_up_is_rounded_up(tmp_path: Path):
    build = compose("trainer=cpu")[0].trainer
    assert build.gradient_clip_val == 1.0
    assert build.accumulate_grad_batches == 1
    training = TrainingOptions(batch_size=4, warmup=0.4)  # of three steps: 1.2
    fid = Seq2Seq(None, settings(training=training), {}, fresh=SIZES)
    report = fid.fit(lesson(tmp_path), functools.partial(trainer, gradient_clip_val=1.0))
    assert report["warmup_steps"] == 2
    assert report["gradient_clip_val"] == 1.0
    biases = [name for name, _ in fid.net.named_parameters() if "bias" in name or "norm" in name]
    assert report["weights_without_decay"] == len(biases) > 5


def test_gradients_are_clipped_after_they_are_those_of_the_mean(tmp_path: Path):
    norms = []

    class Watched(Seq2Seq):
        def optimizer_step(self, *words, **options):
            super().optimizer_step(*words, **options)
            gradients = [w.grad.flatten() for w in self.parameters() if w.grad is not None]
            norms.append(torch.cat(gradients).norm().item())

    for clip in (None, 0.01):
        fid = Watched(None, settings(), {}, fresh=SIZES)
        options = {"gradient_clip_val": clip, "accumulate_grad_batches": 2}
        fid.fit(lesson(tmp_path / str(clip)), functools.partial(trainer, **options))
    whole, clipped = norms
    assert 0.01 < whole < 100
    assert clipped == pytest.approx(0.01, rel=1e-3)


OBEYED = {  # of Lightning's Trainer: options that do what they say, also in our runs
    "accelerator", "strategy", "devices", "num_nodes", "precision", "max_epochs",
    "limit_train_batches", "log_every_n_steps", "enable_progress_bar", "enable_model_summary",
    "accumulate_grad_batches", "gradient_clip_val", "gradient_clip_algorithm", "deterministic",
    "benchmark", "inference_mode", "profiler", "detect_anomaly",
}  # fmt: skip


def test_every_option_of_the_trainer_is_obeyed_or_refused():
    known = set(inspect.signature(pytorch_lightning.Trainer).parameters)
    assert known - OBEYED == set(FIXED_TRAINER_OPTIONS)
    cfg, _ = compose("trainer=cpu")
    for name, reason in FIXED_TRAINER_OPTIONS.items():
        changed = cfg.copy()
        with open_dict(changed):
            changed.trainer[name] = 2
        with pytest.raises(InputError, match=rf"^trainer\.{name} cannot be set: {reason}$"):
            config_checks.check(changed)


def test_every_generation_option_is_obeyed_or_refused():
    known = {name for name in transformers.GenerationConfig().to_dict() if name[0] != "_"}
    assert known >= GENERATION_OPTIONS
    for name in known - GENERATION_OPTIONS:
        with pytest.raises(InputError, match=rf"^model\.generation\.{name} (cannot be set|is no)"):
            Seq2Seq(None, settings(), {name: 2}, fresh=SIZES)


@pytest.mark.parametrize(
    ("generation", "words"),
    [
        ({"top_p": 0.9}, "`top_p`: `do_sample` is not set to `True`"),
        ({"num_beams": 1, "length_penalty": 2.0}, "`length_penalty`: `num_beams` is set to 1"),
        ({"early_stopping": "soon"}, "`early_stopping` must be a boolean or 'never'"),
    ],
)
def test_generation_options_that_another_one_makes_useless_are_refused(generation, words):
    with pytest.raises(InputError, match=f"model.generation: {words}"):
        Seq2Seq(None, settings(), generation, fresh=SIZES)


def test_likelihood_generates_nothing_so_that_its_options_are_refused():
    fid = Seq2Seq(
        None, settings(labels=("a", "b")), {"do_sample": True}, fresh=SIZES, decoding="likelihood"
    )
    with pytest.raises(InputError, match="do_sample has no effect with model.decoding=likelihood"):
        fid.validate(False, "32-true")


def test_the_record_tells_the_generation_options_that_the_weights_bring(tmp_path: Path):
    fid = model()
    fid.net.generation_config.repetition_penalty = 1.5
    assert fid.facts()["generation"]["repetition_penalty"] == 1.5
    assert fid.facts()["generation"]["num_beams"] == 1


def test_patience_stops_training(tmp_path: Path):
    training = TrainingOptions(lr=1e-9, patience=2)
    fid = Seq2Seq(None, settings(training=training), {"num_beams": 1}, fresh=SIZES)
    report = fid.fit(lesson(tmp_path, epochs=20), trainer)
    assert len(report["epochs"]) == 3


def test_gradient_checkpointing_changes_no_loss(tmp_path: Path):
    losses = []
    for on in (False, True):
        training = TrainingOptions(gradient_checkpointing=on)
        sizes = {**SIZES, "dropout_rate": 0.0}
        fid = Seq2Seq(None, settings(training=training), {"num_beams": 1}, fresh=sizes)
        report = fid.fit(lesson(tmp_path / str(on)), trainer)
        losses.append(report["epochs"][0]["train_loss"])
    assert losses[0] == pytest.approx(losses[1], abs=1e-6)


def test_lora_trains_few_weights_and_saves_a_plain_model(tmp_path: Path):
    training = TrainingOptions(lr=1e-2, lora_rank=4, lora_alpha=8, lora_dropout=0.0)
    fid = Seq2Seq(None, settings(training=training), {"num_beams": 1}, fresh=SIZES)
    fid.fit(lesson(tmp_path, epochs=2), trainer)
    again = Seq2Seq(str(tmp_path / "checkpoint"), settings(), {"num_beams": 1})
    batch = fid.collate([prompt("a", *TEXTS)], ["the rose"])
    again.configure_model()
    fid.eval(), again.eval()
    with torch.no_grad():
        assert mean_loss(again, batch) == pytest.approx(mean_loss(fid, batch), abs=1e-5)
    assert not (tmp_path / "checkpoint" / "adapter_config.json").exists()


def test_bf16_trains(tmp_path: Path):
    fid = model()
    report = fid.fit(lesson(tmp_path), functools.partial(trainer, precision="bf16-mixed"))
    assert math.isfinite(report["epochs"][0]["train_loss"])
    assert report["precision"] == "bf16-mixed"


def test_weights_and_tokenizers_that_are_not_there_are_one_clear_line(tmp_path: Path):
    with pytest.raises(InputError, match=r"model\.name=.*nothing"):
        Seq2Seq(str(tmp_path / "nothing"), settings(), {}).validate(True, "32-true")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "t5"}))
    with pytest.raises(InputError, match="no weights could be loaded"):
        Seq2Seq(str(tmp_path), settings(), {}, fresh=SIZES).configure_model()


def test_checkpoint_names_hold_no_equals_sign(tmp_path: Path):
    callback = best_checkpoint(lesson(tmp_path))
    assert "=" not in callback.format_checkpoint_name({"epoch": 3, "step": 10})


def test_drawn_weights_depend_on_the_seed_and_on_nothing_that_ran_before():
    def drawn(seed: int) -> torch.Tensor:
        torch.rand(seed + 3)  # whatever a job before may have drawn
        return model(seed=seed).net.get_input_embeddings().weight

    assert torch.equal(drawn(0), drawn(0))
    assert not torch.equal(drawn(0), drawn(1))

"""Writes the tiny model's tokenizer: the words of the made-up sample and of LaMP's prompts.

    python tests/make_tiny_tokenizer.py

A test compares the file in the package with what this makes.
"""

from __future__ import annotations

import json
import re
import string
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from lamp_exp.contracts import Task
from lamp_exp.data import vocabulary as words
from lamp_exp.tasks.base import LampTask
from lamp_exp.tasks.lamp1 import Lamp1
from lamp_exp.tasks.lamp2 import Lamp2
from lamp_exp.tasks.lamp2_news import Lamp2News
from lamp_exp.tasks.lamp3 import Lamp3
from lamp_exp.tasks.lamp4 import Lamp4
from lamp_exp.tasks.lamp5 import Lamp5
from lamp_exp.tasks.lamp6 import Lamp6
from lamp_exp.tasks.lamp7 import Lamp7
from lamp_exp.values import ProfileItem, SampleText

FOLDER = Path(__file__).parent.parent / "lamp_exp" / "models" / "tiny"
JOINER = "\uffed"  # marks a punctuation mark that is joined to its neighbour
SPECIAL = ["<pad>", "</s>", "<unk>"]
TASKS: list[Task] = [
    Lamp1(), Lamp2(), Lamp2News(), Lamp3(), Lamp4(), Lamp5(), Lamp6(), Lamp7()
]  # fmt: skip


def vocabulary() -> dict[str, int]:
    """Special tokens, joined and bare punctuation, characters, and whole words."""
    tokens = [*SPECIAL]
    for mark in string.punctuation:
        tokens += [mark, JOINER + mark, mark + JOINER, JOINER + mark + JOINER]
    for character in string.ascii_letters + string.digits:
        tokens += [character, f"##{character}"]
    tokens += sorted(_words())
    return {token: number for number, token in enumerate(dict.fromkeys(tokens))}


def _words() -> set[str]:
    """All words of the sample's material and of the wording of every task."""
    found: set[str] = {"lol"}
    for name in ("ADJECTIVES", "VERBS", "PLACES", "TASTES", "OPENINGS", "ENDINGS"):
        found.update(getattr(words, name))
    found.update(word for topic in words.TOPICS for word in topic)
    for task in TASKS:
        for text in _wording(task):
            found.update(re.findall(r"[A-Za-z]+|\d", text))
    return found


def _wording(task: Task) -> list[str]:
    writing = SampleText("the and near", "the", 0, "the", "the", "and", False)
    item = ProfileItem("0", task.sample_item(writing))
    input, _ = task.sample_question(writing)
    instruction = task.instruction if isinstance(task, LampTask) and task.name != "LaMP_1" else ""
    return [task.join(input, [task.entry(item, task.body(item))]), instruction, "1 2 3 4 5"]


def tokenizer() -> Tokenizer:
    """Whole words where they are known, else their longest known pieces down to characters."""
    vocab = vocabulary()
    made = Tokenizer(models.WordPiece(vocab, unk_token="<unk>", max_input_chars_per_word=100))
    made.normalizer = normalizers.Sequence(
        [
            normalizers.Replace(Regex(r"(?<=\S)(?=[^\w\s])"), f" {JOINER}"),
            normalizers.Replace(Regex(rf"(?<=[^\w\s{JOINER}])(?=\S)"), f"{JOINER} "),
        ]
    )
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", vocab["</s>"])]
    )
    made.decoder = decoders.Sequence(
        [
            decoders.WordPiece(prefix="##", cleanup=False),
            decoders.Fuse(),
            decoders.Replace(f" {JOINER}", ""),
            decoders.Replace(f"{JOINER} ", ""),
        ]
    )
    made.add_special_tokens(SPECIAL)
    return made


SETTINGS = {
    "tokenizer_class": "PreTrainedTokenizerFast",
    "pad_token": "<pad>",
    "eos_token": "</s>",
    "unk_token": "<unk>",
    "clean_up_tokenization_spaces": False,
}

if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    tokenizer().save(str(FOLDER / "tokenizer.json"))
    (FOLDER / "tokenizer_config.json").write_text(json.dumps(SETTINGS, indent=2) + "\n")
    print(f"{FOLDER}: {len(vocabulary())} tokens")

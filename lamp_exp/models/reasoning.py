"""The reasoning that some models write before an answer, and the marks around it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from jinja2 import TemplateError

AUTO = "auto"  # as strip_reasoning: remove what the server or the chat template marks
_REASONING, _ANSWER = "(the reasoning)", "(the answer)"


@dataclass(frozen=True, slots=True)
class ReasoningMarks:
    """`begin` and `end` stand around reasoning; with `opened`, a prompt ends with `begin`."""

    begin: str = "<think>"
    end: str = "</think>"
    opened: bool = False

    def answer(self, output: str, capped: bool) -> str | None:
        """What follows the reasoning, nothing if it was cut off; None for an output without."""
        _, end, rest = output.partition(self.end)
        if end:
            return rest.lstrip()
        begun = self.begin != "" and output.lstrip().startswith(self.begin)
        return "" if begun or (self.opened and capped) else None


def template_marks(tokenizer: Any) -> ReasoningMarks | None:
    """The marks that a tokenizer's chat template puts around reasoning; None if it has none.

    Other marks than the usual ones are found by rendering a message with reasoning.
    """
    if not tokenizer.chat_template:
        return None
    question = {"role": "user", "content": "?"}
    answer = {"role": "assistant", "content": _ANSWER, "reasoning_content": _REASONING}

    def render(*messages: dict[str, str], prompt: bool = False) -> str:
        text: str = tokenizer.apply_chat_template(
            list(messages), tokenize=False, add_generation_prompt=prompt
        )
        return text

    def decoded(mark: str) -> str:  # some tokenizers set spaces between special tokens
        text: str = tokenizer.decode(tokenizer(mark, add_special_tokens=False)["input_ids"])
        return text.strip()

    prompt, usual = render(question, prompt=True), ReasoningMarks()
    if usual.end in str(tokenizer.chat_template):
        return replace(usual, opened=prompt.rstrip().endswith(usual.begin))
    try:
        before, _, after = render(question, answer).partition(_REASONING)
    except (TemplateError, TypeError):  # a template for prompts only
        return None
    end = after.partition(_ANSWER)[0].strip()
    if not end:
        return None
    begin = before.removeprefix(prompt).strip() if before.startswith(prompt) else ""
    opened = not begin and not prompt.rstrip().endswith(end)
    return ReasoningMarks(decoded(begin), decoded(end), opened)

"""LaMP-7: how does this user word a tweet?"""

import math
import re
from random import Random

from lamp_exp.tasks.base import GenerationTask
from lamp_exp.values import ProfileItem, SampleText

LEAST_SHOWN, MOST_SHOWN = 0.1, 0.25  # of a tweet's words, from which it is to be completed


class Lamp7(GenerationTask):
    """Personalised tweet paraphrasing."""

    name = "LaMP_7"
    folders = ("LaMP_7",)
    download = "required"
    fields = ("text",)
    instruction = "Paraphrase the following tweet without any explanation before or after it:"
    # The official code reserves room for these words, but writes others into the prompt.
    fixed_text = "are written by user. Following the given patterns"
    document_fields = ("text",)
    body_field = "text"
    target_field = "text"
    writing_noun = "tweets"
    entry_template = '"{body}" '
    counted_entry = '"" '  # the official code counts no body
    prompt_template = "{entries} are written by a person. Following the given patterns {input}"

    def item_pair(self, item: ProfileItem, seed: int) -> tuple[str, str] | None:
        """Asks to complete the tweet, given its first words: a profile holds no paraphrases.

        As in arXiv 2409.09510, in other words: 10 to 25 % of the words are shown, and at least
        one. Their number is drawn from the seed and the tweet's text. None for a single word.
        """
        text = item.fields["text"]
        words = list(re.finditer(r"\S+", text))
        if len(words) < 2:
            return None
        share = Random(f"{seed}:{text}").uniform(LEAST_SHOWN, MOST_SHOWN)
        shown = min(max(1, math.ceil(share * len(words))), len(words) - 1)
        start, rest = text[: words[shown - 1].end()], text[words[shown].start() :]
        return f"Complete the following tweet: {start}", rest

    def sample_target(self, text: SampleText) -> str:
        """The text in this user's style."""
        return text.restyled

    def sample_item(self, text: SampleText) -> dict[str, str]:
        """A tweet in this user's style."""
        return {"text": text.restyled}

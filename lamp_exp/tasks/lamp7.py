"""LaMP-7: how does this user word a tweet?"""

from lamp_exp.tasks.base import GenerationTask
from lamp_exp.values import SampleText


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

    def sample_target(self, text: SampleText) -> str:
        """The text in this user's style."""
        return text.restyled

    def sample_item(self, text: SampleText) -> dict[str, str]:
        """A tweet in this user's style."""
        return {"text": text.restyled}

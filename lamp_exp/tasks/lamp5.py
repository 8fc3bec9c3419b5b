"""LaMP-5: which title does this author give a paper?"""

from lamp_exp.tasks.base import GenerationTask
from lamp_exp.values import SampleText


class Lamp5(GenerationTask):
    """Personalised scholarly titles."""

    name = "LaMP_5"
    folders = ("LaMP_5",)
    download = "required"
    fields = ("title", "abstract")
    instruction = "Generate a title for the following abstract of a paper:"
    fixed_text = "Following the given patterns"
    document_fields = ("title", "abstract")
    body_field = "abstract"
    target_field = "title"
    writing_noun = "titles"
    entry_template = '"{title}" is a title for "{body}" '
    counted_entry = '"{title}" is a title "{body}" '  # the official code counts without `for`
    prompt_template = "{entries}. Following the given patterns {input}"

    def sample_item(self, text: SampleText) -> dict[str, str]:
        return {"title": text.title, "abstract": text.text}

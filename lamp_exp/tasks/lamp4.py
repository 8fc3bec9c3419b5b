"""LaMP-4: which headline does this author write?"""

from lamp_exp.tasks.base import TitleTask


class Lamp4(TitleTask):
    """Personalised news headlines."""

    name = "LaMP_4"
    writing_noun = "headlines"
    folders = ("LaMP_4",)
    download = "required"
    instruction = "Generate a headline for the following article:"
    document_fields = ("title", "text")

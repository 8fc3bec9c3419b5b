"""LaMP-4: the headline that this author would write."""

from lamp_exp.tasks.base import TitleTask
from lamp_exp.values import ProfileItem


class Lamp4(TitleTask):
    """Personalised news headlines."""

    name = "LaMP_4"
    folders = ("LaMP_4",)
    instruction = "Generate a headline for the following article:"

    def document(self, item: ProfileItem) -> str:
        """`{title} {text}`."""
        return f"{item.fields['title']} {item.fields['text']}"

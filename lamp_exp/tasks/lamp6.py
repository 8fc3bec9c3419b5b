"""LaMP-6: the subject that this user would give a mail."""

from lamp_exp.tasks.base import TitleTask
from lamp_exp.values import ProfileItem


class Lamp6(TitleTask):
    """Personalised mail subjects (from the Avocado corpus)."""

    name = "LaMP_6"
    folders = ("LaMP_6",)
    instruction = "Generate a subject for the following email:"

    def document(self, item: ProfileItem) -> str:
        """The mail, without its subject."""
        return item.fields["text"]

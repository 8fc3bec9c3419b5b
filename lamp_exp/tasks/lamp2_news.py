"""The first LaMP-2, since deprecated: which category would this author give the article?"""

from lamp_exp.tasks.base import Labelled, label_list
from lamp_exp.types import ProfileItem, Writing


class Lamp2News(Labelled):
    """Personalised news categorisation, 15 categories; its files are called LaMP_2, too."""

    name = "LaMP_2"
    folders = ("LaMP_2",)
    fields = ("text", "title", "category")
    instruction = (
        "Which category does this article relate to among the following categories? Just answer "
        "with the category name without further explanation. categories: [women, religion, "
        "politics, style & beauty, entertainment, culture & arts, sports, science & technology, "
        "travel, business, crime, education, healthy living, parents, food & drink] article:"
    )
    labels = label_list(instruction)

    def document(self, item: ProfileItem) -> str:
        """`{title} {text}`."""
        return f"{item.fields['title']} {item.fields['text']}"

    def body(self, item: ProfileItem) -> str:
        """The article's text."""
        return item.fields["text"]

    def entry(self, item: ProfileItem, body: str) -> str:
        """`the category for the article: "{text}" is "{category}" `."""
        return f'the category for the article: "{body}" is "{item.fields["category"]}" '

    def made_item(self, writing: Writing) -> dict[str, str]:
        """An article in the category where this author puts such articles."""
        return {
            "text": writing.text,
            "title": writing.title,
            "category": self._category(writing),
        }

    def made_question(self, writing: Writing) -> tuple[str, str]:
        """An article like those."""
        return f"{self.instruction} {writing.text}", self._category(writing)

    def _category(self, writing: Writing) -> str:
        return self.labels[writing.choice % len(self.labels)]

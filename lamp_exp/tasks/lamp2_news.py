"""The first LaMP-2, since deprecated: which category would this author give the article?"""

from lamp_exp.tasks.base import ClassificationTask, classification_metrics, label_list
from lamp_exp.values import ProfileItem, SampleText


class Lamp2News(ClassificationTask):
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
    metrics = classification_metrics(labels)

    def document(self, item: ProfileItem) -> str:
        """`{title} {text}`."""
        return f"{item.fields['title']} {item.fields['text']}"

    def body(self, item: ProfileItem) -> str:
        """The article's text."""
        return item.fields["text"]

    def entry(self, item: ProfileItem, body: str) -> str:
        """`the category for the article: "{text}" is "{category}" `."""
        return f'the category for the article: "{body}" is "{item.fields["category"]}" '

    def sample_item(self, text: SampleText) -> dict[str, str]:
        """An article in the category where this author puts such articles."""
        return {
            "text": text.text,
            "title": text.title,
            "category": self._category(text),
        }

    def sample_question(self, text: SampleText) -> tuple[str, str]:
        """An article like those."""
        return f"{self.instruction} {text.text}", self._category(text)

    def _category(self, text: SampleText) -> str:
        return self.labels[text.choice % len(self.labels)]

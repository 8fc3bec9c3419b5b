"""The first LaMP-2, now deprecated: which category does this author give the article?"""

from lamp_exp.tasks.base import ClassificationTask, classification_metrics, label_list
from lamp_exp.values import SampleText


class Lamp2News(ClassificationTask):
    """Personalised news categorisation, 15 categories; its files are named LaMP_2, too."""

    name = "LaMP_2"
    folders = ("LaMP_2",)
    download = "optional"
    fields = ("text", "title", "category")
    instruction = (
        "Which category does this article relate to among the following categories? Just answer "
        "with the category name without further explanation. categories: [women, religion, "
        "politics, style & beauty, entertainment, culture & arts, sports, science & technology, "
        "travel, business, crime, education, healthy living, parents, food & drink] article:"
    )
    labels = label_list(instruction)
    metrics = classification_metrics(labels)
    document_fields = ("title", "text")
    body_field = "text"
    answer_field = "category"
    entry_template = 'the category for the article: "{body}" is "{category}" '

    def sample_item(self, text: SampleText) -> dict[str, str]:
        """An article with this author's category for such articles."""
        return {"text": text.text, "title": text.title, "category": self.sample_target(text)}

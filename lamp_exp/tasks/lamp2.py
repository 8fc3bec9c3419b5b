"""LaMP-2: which tag does this user give the movie?"""

from lamp_exp.tasks.base import ClassificationTask, classification_metrics, label_list
from lamp_exp.values import SampleText


class Lamp2(ClassificationTask):
    """Personalised movie tagging, 15 tags."""

    name = "LaMP_2"
    folders = ("LaMP_2/new", "LaMP_2")  # the download has the movies in `new`
    download = "required"
    fields = ("description", "tag")
    instruction = (
        "Which tag does this movie relate to among the following tags? Just answer with the tag "
        "name without further explanation. tags: [sci-fi, based on a book, comedy, action, twist "
        "ending, dystopia, dark comedy, classic, psychology, fantasy, romance, thought-provoking, "
        "social commentary, violence, true story] description:"
    )
    labels = label_list(instruction)
    metrics = classification_metrics(labels)
    document_fields = ("description",)
    body_field = "description"
    answer_field = "tag"
    entry_template = 'the tag for the movie: "{body}" is "{tag}" '

    def sample_item(self, text: SampleText) -> dict[str, str]:
        """A movie with this user's tag for such movies."""
        return {"description": text.text, "tag": self.sample_target(text)}

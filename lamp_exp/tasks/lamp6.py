"""LaMP-6: which subject does this author give an e-mail?"""

from lamp_exp.tasks.base import TitleTask


class Lamp6(TitleTask):
    """Personalised e-mail subjects."""

    name = "LaMP_6"
    writing_noun = "e-mail subjects"
    folders = ("LaMP_6",)
    download = "required"
    licence = "Avocado Research Email Collection (LDC2015T03)"
    instruction = "Generate a subject for the following email:"
    document_fields = ("text",)

"""No summary."""

from collections.abc import Sequence

from lamp_exp.contracts import Summary, Task
from lamp_exp.values import ProfileItem


class NoSummary(Summary):
    """Says nothing, so that prompts show the items alone."""

    uses_profile = False
    max_tokens = 0

    def text(self, task: Task, profile: Sequence[ProfileItem]) -> str:
        """The empty text."""
        return ""

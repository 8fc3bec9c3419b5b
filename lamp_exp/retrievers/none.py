"""No retrieval: the run without a profile."""

from collections.abc import Sequence

from lamp_exp.contracts import Retriever
from lamp_exp.values import Document, Hit, Query


class NoRetrieval(Retriever):
    """Never looks at the profile, so that its prompts are the bare inputs, whatever k."""

    uses_profile = False

    def rank(self, query: Query, documents: Sequence[Document]) -> list[Hit]:
        """Nothing."""
        return []

"""No retrieval: the run without a profile."""

from collections.abc import Sequence

from lamp_exp.contracts import Retriever
from lamp_exp.values import Document, Hit, Query


class NoRetrieval(Retriever):
    """Returns no items, so that prompts are the inputs alone, whatever k is."""

    uses_profile = False

    def rank(self, query: Query, documents: Sequence[Document]) -> list[Hit]:
        """An empty ranking."""
        return []

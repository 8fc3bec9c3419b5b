"""RSPG-Pre: a cross-encoder chooses by the prompts, before any answer is written."""

from __future__ import annotations

from lamp_exp.routers.cross_encoder import CrossEncoder, Text
from lamp_exp.values import RoutedQuestion


class RspgPre(CrossEncoder):
    """Reads each candidate's prompt, in lower case as published (arXiv 2404.05970)."""

    def text(self, question: RoutedQuestion, candidate: int) -> Text:
        return (question.prompts[candidate].lower(),)

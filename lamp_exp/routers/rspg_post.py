"""RSPG-Post: a cross-encoder chooses by the prompts and the answers to them."""

from __future__ import annotations

from lamp_exp.routers.cross_encoder import CrossEncoder, Text
from lamp_exp.values import RoutedQuestion


class RspgPost(CrossEncoder):
    """Reads each candidate's prompt and answer as a pair, in lower case (arXiv 2404.05970)."""

    def text(self, question: RoutedQuestion, candidate: int) -> Text:
        return question.prompts[candidate].lower(), question.outputs[candidate].lower()

"""No adapter: the model answers everybody with the same weights."""

from __future__ import annotations

from lamp_exp.artefacts import Adapter


class NoAdapter(Adapter):
    """Leaves the model as it is."""

    uses_profile = False

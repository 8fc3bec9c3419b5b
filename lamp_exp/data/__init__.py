"""Questions with their profiles and golds, from files of the official layout or made up."""

from lamp_exp.data.leaks import own_items
from lamp_exp.data.load import Part, check_sources, load

__all__ = ["Part", "check_sources", "load", "own_items"]

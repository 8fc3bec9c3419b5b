"""What outlives a run on disk, below `<output_dir>/.cache`."""

from lamp_exp.cache.answers import DiskMap
from lamp_exp.cache.rankings import Order, RankingCache
from lamp_exp.cache.vectors import VectorCache

__all__ = ["DiskMap", "Order", "RankingCache", "VectorCache"]

"""What outlives a run on disk, below `<output_dir>/.cache`."""

from lamp_exp.cache.answers import DiskMap

__all__ = ["DiskMap"]

"""Files on disk: atomic writes, locks, and the caches shared by all runs of an output folder."""

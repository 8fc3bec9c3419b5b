"""One experiment: its components, its stages, its identity and how it is run."""

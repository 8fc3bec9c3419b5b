"""Weights & Biases: one run's session and upload, and the commands `sync` and `workspace`."""

"""Weights & Biases: what a run tells it, what is sent later, and panels that compare runs."""

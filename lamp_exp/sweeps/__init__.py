"""Sweeps: which jobs of a grid are run, how they fare, and what is told of them."""

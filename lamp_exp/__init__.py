"""Personalising language models on the LaMP benchmark: one experiment, or the paper's grids."""

__version__ = "0.1.0"

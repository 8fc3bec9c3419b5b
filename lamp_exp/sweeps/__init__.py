"""Sweeps: planning the jobs of a grid, running and watching them, and the digest of the results."""

"""Faster ways to compute what the library computes: one file each, each with a switch."""

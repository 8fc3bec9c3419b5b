"""Faster ways to the same numbers, one file each; `model.speed=false` leaves them out."""

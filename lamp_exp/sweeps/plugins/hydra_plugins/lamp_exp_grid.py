"""The name under which Hydra finds the sweeper: a plugin is a module of this namespace package."""

from lamp_exp.sweeps.sweeper import GridSweeper


class Grid(GridSweeper):
    """`hydra/sweeper=grid`."""

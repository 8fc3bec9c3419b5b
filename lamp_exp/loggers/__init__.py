"""Where training curves and final metrics go besides the run folder: one module an option."""

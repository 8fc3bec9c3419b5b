"""Reports from the records alone: tables, statistics and comparisons of runs."""

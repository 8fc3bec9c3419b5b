"""Reports from the records of runs: tables, statistics, plots, a page; no model and no network."""

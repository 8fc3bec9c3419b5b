"""What a run leaves on disk: the result, the run folder, the prediction journal."""

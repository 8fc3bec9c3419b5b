"""Ways to show retrieved items to a model, one file each."""

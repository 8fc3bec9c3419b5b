"""Ways to put retrieved items before a model: one file each."""

"""Ways to rank a profile: one file each."""

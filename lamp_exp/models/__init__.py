"""Models that answer prompts: one file each."""

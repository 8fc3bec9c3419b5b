"""Summaries of profiles: texts on the user that prompts show beside the items."""

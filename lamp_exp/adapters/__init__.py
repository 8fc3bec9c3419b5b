"""Ways to adapt the model that answers to a user, one file each."""

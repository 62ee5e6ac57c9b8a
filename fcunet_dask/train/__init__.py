"""Training of the networks, and their judging."""

"""A run as it is kept: its folder, its checkpoints, how it resumes, what is told of it and drawn."""

"""What is kept of a run: its folder, its checkpoints, how it resumes, and what is reported and drawn of it."""

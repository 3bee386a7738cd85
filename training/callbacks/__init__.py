"""What watches over a run: checkpoints, losses that are no numbers, what is said at its start."""

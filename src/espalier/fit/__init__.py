"""Fit: the one training loop, checkpoints and the run folder."""

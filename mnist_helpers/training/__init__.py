"""Notebook 03: a step, an epoch, a checkpoint, a run."""

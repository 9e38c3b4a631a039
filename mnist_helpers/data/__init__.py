"""Notebook 01: files, digits, batches."""

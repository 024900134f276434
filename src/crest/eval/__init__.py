"""Measure a guard: predictions first, metrics after, every number with its interval."""

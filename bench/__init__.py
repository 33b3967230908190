"""Measurements, each a command that prints its table. No tests: these machines are noisy."""

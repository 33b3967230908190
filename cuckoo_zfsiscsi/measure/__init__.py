"""Measures what the paper measured: recovery times (table 4), and where samples run (table 2)."""

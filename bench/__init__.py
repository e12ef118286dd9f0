"""Benchmarks: `python -m bench`. Each compares radlake with named peers in one run; nothing here is a test."""

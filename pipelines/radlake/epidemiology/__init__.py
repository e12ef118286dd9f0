"""Measures as files: read and checked, counted over persons, released through the gate of `radlake.stats`."""

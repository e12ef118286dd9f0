"""radlake: the data platform under a province's imaging cloud."""

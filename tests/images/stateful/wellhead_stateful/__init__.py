"""A connector that remembers things on disk, which no connector may; a fixture for the checks that must find it."""

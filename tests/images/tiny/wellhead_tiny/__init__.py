"""A connector package without a connector; image tests start it and read what it prints."""

"""The composition root: the only place that constructs services from settings."""

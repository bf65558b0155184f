"""Runners: what starts a connector, watches over it and ends it."""

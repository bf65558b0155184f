"""Egress: what a run may reach, the gateway that holds it there, and the fence around a run."""

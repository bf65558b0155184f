"""The protocol as plain values: generated code, and the one codec between it and the rest."""

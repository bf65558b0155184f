"""Wellhead runs data-source connectors as sealed, versioned containers."""

__version__ = "0.1.0"

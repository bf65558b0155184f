"""Reads JSON records over HTTPS, page by page, under the transport rules of a profile."""

"""Reads one CSV file from a mounted folder, fast, and sets aside what does not fit instead of losing it."""

"""Judging: every detector on the same patterns and scans, by the same rules."""

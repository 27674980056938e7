"""Scores that can be compared with published tables: metrics, benchmark folders, reports."""

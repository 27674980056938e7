"""Exported networks, each run by the program that its file is for: torch is only what holds the images."""

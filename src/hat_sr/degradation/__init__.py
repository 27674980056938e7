"""Degraded input: low-resolution images that are blurred, resized, noisy and compressed, once or twice."""

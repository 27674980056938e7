"""Training: settings, data, schedule, state on disk, and the loop."""

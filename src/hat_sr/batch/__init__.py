"""Many files: what becomes of them, where they lie, what is done already, and who does it, here or on a Ray cluster."""

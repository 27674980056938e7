"""Training images: where they are, which patch of which image is sample k, and the folders made ready for it."""

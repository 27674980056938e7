"""Images: files to pixels, pixels to tensors, and the resizing and colour arithmetic between them."""

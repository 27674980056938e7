"""Low-resolution images as people have them: blurred, resized, noisy and through JPEG, once or twice."""

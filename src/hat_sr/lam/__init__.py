"""Local attribution maps: which pixels of the low-resolution image a network used for a part of its result."""

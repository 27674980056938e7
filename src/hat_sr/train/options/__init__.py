"""Option files of the official code (BasicSR, YAML) turned into recipes."""

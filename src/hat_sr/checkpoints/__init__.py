"""Files of weights: their formats and keys, networks by name, the Hugging Face Hub."""

"""Files and networks: formats, keys, names, the Hugging Face Hub. Only here is known how weights are stored."""

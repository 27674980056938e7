"""Many files, here or on a Ray cluster, from and to whatever fsspec opens."""

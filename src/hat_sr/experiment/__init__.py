"""Sets of trainings that are run, scored and reported alike: pre-training, ablations, other networks."""

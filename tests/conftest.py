"""Settings of all tests."""

from hypothesis import settings

# The same examples in every run, and no limit on time: a busy machine is no failure.
settings.register_profile("deterministic", derandomize=True, deadline=None, database=None)
settings.load_profile("deterministic")

"""Settings of all tests, and a network exported once for those that need one."""

import pytest
from hypothesis import settings

# The same examples in every run, and no limit on time: a busy machine is no failure.
settings.register_profile("deterministic", derandomize=True, deadline=None, database=None)
settings.load_profile("deterministic")


@pytest.fixture(scope="session")
def exported(tmp_path_factory):
    """A tiny network and its files for other runtimes."""
    from exported import Exported  # here: environments for other tests have no onnx

    return Exported(tmp_path_factory.mktemp("exported"))

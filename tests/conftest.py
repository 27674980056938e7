"""Settings of all tests, and what is slow to make: once for those that need it."""

import errno
import os

import pytest
from hypothesis import settings

# Processes that share the cores run one thread each: two of them with two threads each wait for one another. Here,
# before torch is imported.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# The same examples in every run, and no limit on time: a busy machine is no failure.
settings.register_profile("deterministic", derandomize=True, deadline=None, database=None)
settings.load_profile("deterministic")


@pytest.fixture(scope="session")
def exported(tmp_path_factory):
    """A tiny network and its files for other runtimes."""
    from helpers.exported import Exported  # here: environments for other tests have no onnx

    folder = tmp_path_factory.getbasetemp()
    return Exported((folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder) / "exported")


@pytest.fixture(scope="session")
def kept_sandbox():
    """The server's child process that reads files, which takes seconds to start: made once."""
    from serve.serving import KeptSandbox  # here: environments for other tests have no server

    sandbox = KeptSandbox(seconds=20)
    yield sandbox
    sandbox.close_at_last()


@pytest.fixture
def shared(kept_sandbox, monkeypatch):
    """Services of this test take the sandbox that all share."""
    monkeypatch.setattr("hat_sr.serve.service.Sandbox", lambda seconds: kept_sandbox)
    return kept_sandbox


@pytest.fixture
def closed(monkeypatch):
    """Closes folders, as chmod 000 does for anyone but root, who may run the tests."""
    folders, scan, access = set(), os.scandir, os.access

    def scandir(path="."):
        if not isinstance(path, int) and os.path.realpath(path) in folders:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return scan(path)

    monkeypatch.setattr(os, "scandir", scandir)
    monkeypatch.setattr(os, "access", lambda path, mode: os.path.realpath(path) not in folders and access(path, mode))
    return lambda folder: folders.add(os.path.realpath(folder))

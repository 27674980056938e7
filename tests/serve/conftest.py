import pytest

from serve import serving


@pytest.fixture(scope="session")
def kept_sandbox():
    sandbox = serving.KeptSandbox(seconds=20)
    yield sandbox
    sandbox.close_at_last()


@pytest.fixture
def shared(kept_sandbox, monkeypatch):
    """Services of this test take the sandbox that all share."""
    monkeypatch.setattr("hat_sr.serve.service.Sandbox", lambda seconds: kept_sandbox)
    return kept_sandbox

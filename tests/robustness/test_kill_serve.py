"""The short form of kill_serve.py."""

from robustness.kill_serve import try_it


def test_a_killed_server_loses_no_job(tmp_path):
    outcome = try_it(tmp_path, kills=2, seed=1)
    assert outcome.good, outcome
    assert outcome.while_running + outcome.in_requests > 0

"""The short form of load_serve.py."""

from robustness.load_serve import try_it


def test_many_clients_get_their_answers(tmp_path):
    outcome = try_it(tmp_path, num_requests=100, num_clients=50, seed=0)
    assert outcome.wrong == []
    assert outcome.lost == 0
    assert sum(outcome.answers.values()) == 100
    assert {status for _, status in outcome.answers} >= {200, 202, 413, 415, 422}

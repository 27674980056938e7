import torch

from hat_sr.model.digest import weights_digest


def test_weights_have_a_digest():
    one, other = torch.nn.Linear(2, 3), torch.nn.Linear(2, 3)
    assert weights_digest(one) != weights_digest(other)
    other.load_state_dict(one.state_dict())
    assert weights_digest(one) == weights_digest(other) != weights_digest(one.to(torch.bfloat16))

"""torch.export and torch.compile take the network, with open sizes."""

import pytest
import torch
from torch.export import Dim

from goldens.formula import image
from model.tiny import tiny_model


@pytest.fixture(scope="module")
def model():
    return tiny_model()


def test_torch_export(model):
    sizes = {0: Dim("batch"), 2: 4 * Dim("rows"), 3: 4 * Dim("columns")}
    with torch.no_grad():
        program = torch.export.export(model, (image((2, 3, 8, 12)),), dynamic_shapes=(sizes,))
        # torch's guards are about how memory is laid out: the program itself is right for any size.
        module = program.module(check_guards=False)
        for shape in ((2, 3, 8, 12), (3, 3, 20, 16), (1, 3, 4, 4), (1, 3, 4, 24), (2, 3, 16, 4)):
            x = image(shape)
            torch.testing.assert_close(module(x), model(x), rtol=0, atol=1e-5)


def test_torch_compile(model):
    torch.compiler.reset()
    compiled = torch.compile(model, backend="eager", dynamic=True, fullgraph=True)
    with torch.no_grad():
        compiled(image((2, 3, 12, 16)))
        torch.compiler.set_stance("fail_on_recompile")
        try:
            for shape in ((2, 3, 12, 16), (3, 3, 20, 24)):
                x = image(shape)
                torch.testing.assert_close(compiled(x), model(x), rtol=0, atol=1e-5)
        finally:
            torch.compiler.set_stance("default")

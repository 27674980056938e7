"""With a stand-in for spandrel; tests/baselines has the real one."""

import json
import sys
from types import ModuleType, SimpleNamespace

import pytest
import torch
from safetensors.torch import save_file

from hat_sr.checkpoints.checkpoint import NETWORK_KEY
from hat_sr.errors import WeightsError
from hat_sr.inference.open import open_network
from inference.doubles import nearest, random_image


class Repeat(torch.nn.Module):
    """×2 by nearest neighbour, with a weight that is 1; changes its input, as some networks do."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))

    def forward(self, x):
        x *= self.weight.detach() + 1
        return nearest(2)(x) * self.weight / 2


class Descriptor:
    """What spandrel makes of a file."""

    def __init__(self, **changes):
        self.model = Repeat()
        self.architecture = SimpleNamespace(name="Repeat")
        self.purpose, self.scale, self.input_channels, self.output_channels = "SR", 2, 3, 3
        self.supports_half, self.supports_bfloat16 = False, True
        self.size_requirements = SimpleNamespace(minimum=0, multiple_of=8, square=False)
        vars(self).update(changes)

    def eval(self):
        self.model.eval()
        return self

    @torch.inference_mode()
    def __call__(self, x):
        return self.model(x).clamp_(0, 1)


@pytest.fixture
def other(tmp_path):
    """A file of another network's weights."""
    path = tmp_path / "other.pth"
    torch.save({"params": {"weight": torch.ones(1)}}, path)
    return str(path)


@pytest.fixture
def spandrel(monkeypatch):
    """A module that opens every file as `spandrel.found`, or fails if that is an error."""
    module = ModuleType("spandrel")
    module.found, module.ImageModelDescriptor = Descriptor(), Descriptor

    def load(state):
        if isinstance(module.found, Exception):
            raise module.found
        assert set(state) == {"weight"}
        return module.found

    module.ModelLoader = lambda device: SimpleNamespace(load_from_state_dict=load)
    monkeypatch.setitem(sys.modules, "spandrel", module)
    return module


def test_another_network(spandrel, other):
    network = open_network(other)
    assert (network.name, network.title, network.scale) == ("other", "Repeat", 2)
    assert (network.in_chans, network.size_multiple) == (3, 8)
    assert network.dtypes == (torch.float32, torch.bfloat16)
    assert network.module is spandrel.found.model
    x = random_image(1, 3, 4, 5).requires_grad_()
    out = network.upscale(x)
    assert torch.equal(out, nearest(2)(x))
    out.sum().backward()
    assert torch.equal(x.grad, torch.full_like(x, 4))


def test_without_spandrel(other, monkeypatch):
    monkeypatch.setitem(sys.modules, "spandrel", None)
    with pytest.raises(
        WeightsError, match=r"other\.pth: .*; to run other networks: pip install 'hat-sr\[baselines\]'$"
    ):
        open_network(other)


@pytest.mark.parametrize(
    ("found", "says"),
    [
        (Descriptor(purpose="Restoration"), "opens it as Repeat, which is not for super-resolution"),
        (Descriptor(output_channels=1), "Repeat makes 1 channels of 3"),
        (SimpleNamespace(architecture=SimpleNamespace(name="LaMa")), "opens it as LaMa, which is not"),
        (ValueError("no idea"), r"no conv_first.weight; nor does spandrel know it \(ValueError: no idea\)"),
    ],
)
def test_what_is_not_for_super_resolution(spandrel, other, found, says):
    spandrel.found = found
    with pytest.raises(WeightsError, match=says):
        open_network(other)


@pytest.mark.parametrize("content", [b"", b"no weights", b"\x89PNG"])
def test_what_is_no_weights_at_all_is_refused_as_ever(spandrel, tmp_path, content):
    (tmp_path / "a.pth").write_bytes(content)
    with pytest.raises(WeightsError, match=r"a\.pth: it is (?!.*spandrel)"):
        open_network(str(tmp_path / "a.pth"))


class Times(torch.nn.Module):
    """×2 by nearest neighbour, times a number that its weights do not tell."""

    def __init__(self, *, number=255):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.number = number

    def forward(self, x):
        return nearest(2)(x) * self.weight * self.number


def trained(path, entry, weight=1.0, **arguments):
    """A file as `hat_sr.train` writes it for a recipe's [network]."""
    text = json.dumps({"entry": entry, "arguments": arguments, "provenance": {}})
    save_file({"weight": torch.full((1,), weight)}, path, metadata={NETWORK_KEY: text})
    return str(path)


def test_the_network_of_a_recipe_is_made_by_its_own_arguments(spandrel, tmp_path):
    spandrel.found = Descriptor(model=Times())
    network = open_network(trained(tmp_path / "a.safetensors", f"{__name__}:Times", weight=0.25, number=4))
    x = random_image(1, 3, 4, 5)
    assert torch.equal(network.upscale(x).detach(), nearest(2)(x))
    assert not network.module.training


@pytest.mark.parametrize("entry", ["my_networks:Times", f"{__name__}:Repeat", __name__, f"{__name__[:-1]}:Times"])
def test_a_class_that_a_file_names_is_not_imported(spandrel, tmp_path, entry):
    spandrel.found = Descriptor(model=Times())
    with pytest.raises(WeightsError, match=f"{entry}, which hat-sr trains .* spandrel takes it for its own Times"):
        open_network(trained(tmp_path / "a.safetensors", entry, number=4))


def test_arguments_that_the_class_does_not_take(spandrel, tmp_path):
    spandrel.found = Descriptor(model=Times())
    with pytest.raises(WeightsError, match=r"a\.safetensors: .*cannot be made by the arguments .*\(TypeError: .*width"):
        open_network(trained(tmp_path / "a.safetensors", f"{__name__}:Times", width=4))


class Wide(Times):
    """As many numbers as it is told."""

    def __init__(self, *, number=1):
        super().__init__()
        self.register_buffer("table", torch.empty(number), persistent=False)


def test_a_file_takes_no_memory_by_its_word_alone(spandrel, tmp_path):
    spandrel.found = Descriptor(model=Wide())
    path = trained(tmp_path / "a.safetensors", f"{__name__}:Wide", number=2**30)
    with pytest.raises(WeightsError, match="ValueError: it would be much larger than the file"):
        open_network(path)
    path = trained(tmp_path / "a.safetensors", f"{__name__}:Wide", number=2**10)
    assert open_network(path).module.table.shape == (2**10,)


@pytest.mark.parametrize("text", ["{}", "no JSON", "[]", '{"entry": "a:B", "arguments": 3}'])
def test_a_recipe_s_network_with_damaged_metadata(spandrel, tmp_path, text):
    save_file({"weight": torch.ones(1)}, tmp_path / "a.safetensors", metadata={NETWORK_KEY: text})
    with pytest.raises(WeightsError, match=r"a\.safetensors: its metadata, under 'hat_sr_network', is not as"):
        open_network(str(tmp_path / "a.safetensors"))


def test_the_network_of_a_recipe_without_spandrel(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "spandrel", None)
    with pytest.raises(WeightsError, match=r"holds weights of a:B, not of HAT; to run .*: pip install"):
        open_network(trained(tmp_path / "a.safetensors", "a:B"))

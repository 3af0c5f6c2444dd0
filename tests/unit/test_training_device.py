"""The device of a run: single precision is single precision, and a record says so."""

import pytest
import torch

from shared.config import ConfigError
from shared.runs.provenance import numerics
from shared.training import prepare_device


@pytest.fixture(autouse=True)
def flags(monkeypatch):
    """TF32 allowed, as torch allows it for convolutions; put back afterwards."""
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    yield
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


def test_tf32_is_off_in_products_and_convolutions_and_recorded():
    """Its 10 bits make x + 1e-6 d into x, and the paper tier's fp32 into something else."""
    assert numerics()["tf32"] is True
    prepare_device("cpu")
    assert not torch.backends.cuda.matmul.allow_tf32 and not torch.backends.cudnn.allow_tf32
    assert numerics()["tf32"] is False


@pytest.mark.parametrize("flag", [torch.backends.cuda.matmul, torch.backends.cudnn], ids=["products", "convolutions"])
def test_tf32_of_either_kind_is_recorded(flag):
    prepare_device("cpu")
    flag.allow_tf32 = True
    assert numerics()["tf32"] is True


def test_numbers_on_a_cpu_do_not_depend_on_it():
    x = torch.randn(2, 8, 16, 16, generator=torch.Generator().manual_seed(0))
    convolution = torch.nn.Conv2d(8, 16, 3)
    before = convolution(x), x.flatten(2) @ x.flatten(2).mT
    prepare_device("cpu")
    after = convolution(x), x.flatten(2) @ x.flatten(2).mT
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


@pytest.mark.parametrize("name", ["mps", "cuda:7", "gpux"])
def test_a_device_that_is_not_there_is_refused_by_name(name):
    with pytest.raises(ConfigError, match=name):
        prepare_device(name)
    assert prepare_device("CPU") == torch.device("cpu")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_step_of_1e_6_is_felt_on_a_gpu():
    device = prepare_device("cuda")
    x = torch.rand(4, 16, 32, 32, device=device) + 0.5
    convolution = torch.nn.Conv2d(16, 16, 3, device=device)
    with torch.no_grad():
        exact = convolution.double()(x.double())
        assert (convolution.float()(x) - exact).abs().max() < 1e-5

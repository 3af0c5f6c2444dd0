"""The Deep Sparse Detector: complex layers against torch's own, the mask, and the loss in the hologram domain."""

import pytest
import torch
import torch.nn.functional as F

from papers.vp_dsd.detection.layers import (
    ComplexConv,
    ComplexConvs,
    SparseComplexConv,
    local_log_softmax,
    patch_max,
    to_complex,
    to_real,
)
from papers.vp_dsd.detection.network import DeepSparseDetector, at, peaks
from papers.vp_dsd.imaging.optics import Optics

OPTICS = Optics(0.637, 1.67, 200.0)
SMALL = {"maps": 4, "encoder_kernels": (3, 3, 3), "head_kernels": (3, 3, 3), "patch": 5, "nms": 5}


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def noise(*shape):
    return torch.complex(torch.randn(shape), torch.randn(shape))


def holograms(n=2, size=32, cells=6):
    """Real parts of bright points, spread by propagation, with a little noise."""
    image = torch.zeros(n, size, size, dtype=torch.complex64)
    for i in range(n):
        for place in torch.randperm(size**2 // 25)[:cells]:
            row, column = 5 * (place // (size // 5)), 5 * (place % (size // 5))
            image[i, row % size, column % size] = torch.polar(torch.tensor(5.0), torch.randn(()))
    return OPTICS.to_sensor(image).real + 0.05 * torch.randn(n, size, size)


def network(**more):
    made = DeepSparseDetector(OPTICS, **{**SMALL, **more})
    made.calibrate(holograms(), strength=4.0)
    return made.eval()


def test_block_convolution_is_the_complex_convolution():
    layer, x = ComplexConv(3, 2, 5), noise(2, 3, 9, 8)
    torch.nn.init.normal_(layer.bias)
    expected = F.conv2d(x, torch.complex(*layer.weight), torch.complex(*layer.bias.chunk(2)))
    torch.testing.assert_close(to_complex(layer(to_real(x))), expected)


def test_sparse_convolution_is_the_dense_one_on_a_periodic_image():
    """Sites at the border and overlapping copies included."""
    dense, sparse = ComplexConvs((3, 2), (5,), bias=False), SparseComplexConv(3, 2, 5)
    sparse.load_state_dict(dense.layers[0].state_dict())
    sites = torch.tensor([0, 0, 0, 1]), torch.tensor([0, 1, 8, 4]), torch.tensor([7, 6, 0, 3])
    x = torch.zeros(2, 6, 9, 8)
    values = torch.randn(4, 6)
    x[sites[0], :, sites[1], sites[2]] = values
    torch.testing.assert_close(sparse(values, sites, (2, 9, 8)), dense(x))


def test_a_stack_is_its_layers_one_by_one_with_relu_on_both_parts():
    net, x = ComplexConvs((1, 3, 2), (5, 3)), noise(2, 1, 8, 8)
    hidden = to_complex(ComplexConvs.forward(_single(net.layers[0], 2), to_real(x)))
    hidden = torch.complex(hidden.real.relu(), hidden.imag.relu())
    expected = ComplexConvs.forward(_single(net.layers[1], 1), to_real(hidden))
    torch.testing.assert_close(net(to_real(x)), expected)


def _single(layer, border):
    net = ComplexConvs((1, 1), (2 * border + 1,))
    net.layers[0] = layer
    return net


def test_a_crop_of_the_receptive_field_gives_the_value_at_its_centre():
    """What lets a classifier and the encoder learn together from crops alone."""
    net, x = ComplexConvs((1, 3, 2), (5, 3)), torch.randn(1, 2, 16, 16)
    crop = x[:, :, 4:11, 7:14]
    assert net.border == 3
    torch.testing.assert_close(net.valid(crop)[0, :, 0, 0], net(x)[0, :, 7, 10])


def test_filter_sizes_are_refused_by_name():
    with pytest.raises(ValueError, match=r"\(5, 4\)"):
        ComplexConvs((1, 2, 2), (5, 4))
    with pytest.raises(ValueError, match="patch must be odd.*got 8"):
        network(patch=8)


@pytest.mark.parametrize("m", [1, 3, 5, 7])
@pytest.mark.parametrize("scale", [1.0, 1000.0])
def test_local_softmax_is_the_direct_sum_over_the_patch(scale, m):
    """At strengths where exp overflows too: pooled exponentials would give 0 / 0."""
    s = scale * torch.rand(2, 9, 8, dtype=torch.float64)
    around = F.unfold(F.pad(s[:, None], (m // 2,) * 4, mode="circular"), m).view(2, m * m, 9, 8)
    torch.testing.assert_close(local_log_softmax(s, m), around.log_softmax(1)[:, m * m // 2])


def test_local_softmax_limits():
    assert torch.allclose(local_log_softmax(torch.full((1, 9, 9), 7.0), 3).exp(), torch.tensor(1 / 9))
    lonely = torch.zeros(1, 9, 9)
    lonely[0, 4, 4] = 50.0
    heat = local_log_softmax(lonely, 3).exp()
    assert heat[0, 4, 4] > 0.999 and heat[0, 3:6, 3:6].sum() < 1.001 and (heat <= 1).all()


@pytest.mark.parametrize("m", [1, 3, 7, 9, 13])
def test_the_largest_of_a_patch_is_looked_for_in_all_of_it_and_nowhere_else(m):
    heat, half = torch.rand(2, 20, 16), m // 2
    shifts = [(a, b) for a in range(-half, half + 1) for b in range(-half, half + 1)]
    assert torch.equal(patch_max(heat, m), torch.stack([heat.roll(shift, (1, 2)) for shift in shifts]).amax(0))


def test_a_detection_is_the_largest_of_its_patch_and_reaches_the_threshold():
    heat = torch.rand(2, 20, 20)
    found = peaks(heat, 0.9, 5)
    direct = torch.stack([heat.roll((a, b), (1, 2)) for a in range(-2, 3) for b in range(-2, 3)]).amax(0)
    torch.testing.assert_close(patch_max(heat, 5), direct)
    mask = torch.zeros_like(heat, dtype=torch.bool)
    mask[found.image, found.row, found.column] = True
    assert torch.equal(mask, (heat == direct) & (heat >= 0.9)) and 0 < mask.sum() < 40
    assert torch.equal(found.score, heat[mask])
    assert len(peaks(heat, 1.1, 5).score) == 0


def test_everything_moves_with_a_periodic_image():
    net, x = network(), holograms()
    moved = net.encode(x.roll((3, -5), (1, 2)))
    torch.testing.assert_close(moved, net.encode(x).roll((3, -5), (2, 3)), rtol=1e-3, atol=1e-4)
    rebuilt, sites = net(x, 0.3)
    again, others = net(x.roll((3, -5), (1, 2)), 0.3)
    assert len(sites.score) == len(others.score) > 0
    torch.testing.assert_close(again, rebuilt.roll((3, -5), (1, 2)), rtol=1e-3, atol=1e-4)


def test_loss_is_the_formula_of_the_hologram_domain():
    """With the mask and the volume written out densely: A' = M A, head, T^-1, real part."""
    net, x = network(), holograms()
    volume = net.encode(x)
    heat = net.heat(volume)
    mask = heat * (heat == patch_max(heat, 5)) * (heat >= 0.3)
    dense = ComplexConvs((4, 4, 4, 1), (3, 3, 3), bias=False)
    for layer, weights in zip(dense.layers, [net.first, *net.head.layers], strict=True):
        layer.load_state_dict(weights.state_dict())
    image = to_complex(dense(mask[:, None] * volume))[:, 0]
    expected = (OPTICS.to_sensor(image).real - x / net.unit).square().mean()
    loss, _ = net.loss(x, 0.3)
    torch.testing.assert_close(loss, expected)
    loss.backward(retain_graph=True)
    gradients = [p.grad.clone() for p in net.encoder.parameters()]
    net.zero_grad()
    expected.backward()
    for ours, direct in zip(gradients, net.encoder.parameters(), strict=True):
        assert direct.grad.abs().max() > 0
        torch.testing.assert_close(ours, direct.grad, rtol=1e-3, atol=1e-5)


def test_nothing_detected_is_an_empty_hologram_not_an_error():
    net, x = network(), holograms()
    rebuilt, sites = net(x, 1.1)
    assert len(sites.score) == 0 and not rebuilt.any()
    assert net.loss(x, 1.1)[0].item() == pytest.approx(float((x / net.unit).square().mean()))


@pytest.mark.parametrize("factor", [1e-3, 1e3])
def test_calibration_makes_the_start_independent_of_the_camera(factor):
    """Counts of 8 or 16 bits, or the filters' random scale, must not decide what is detected."""
    net, x = network(), holograms()
    net.calibrate(x, strength=4.0)
    before = net.heat(net.encode(x))
    with torch.no_grad():
        for parameter in net.encoder.layers[-1].parameters():
            parameter.mul_(7)
    net.calibrate(factor * x, strength=4.0)
    torch.testing.assert_close(net.image(factor * x).square().sum(1).mean(), torch.tensor(1.0))
    torch.testing.assert_close(net.heat(net.encode(factor * x)), before, rtol=1e-3, atol=1e-5)
    strengths = [len(net.sites(net.encode(factor * x), 0.5).score) for net.strength in map(torch.tensor, (0.5, 2.0, 8))]
    assert strengths[0] < strengths[1] < strengths[2]


def test_the_heat_map_forgets_how_far_the_encodings_have_grown():
    """A fixed lambda would sharpen the softmax until every local maximum is a detection."""
    net, x = network().train(), holograms()
    net.calibrate(x)
    before = net.heat(net.encode(x))
    with torch.no_grad():
        for parameter in net.encoder.layers[-1].parameters():
            parameter.mul_(7)
        for _ in range(100):
            net(x, 0.5)
    torch.testing.assert_close(net.heat(net.encode(x)), before, rtol=1e-2, atol=1e-3)
    level = net.level.clone()
    net.eval()(10 * x, 0.5)
    assert torch.equal(net.level, level)


def test_calibration_without_an_image_is_refused():
    with pytest.raises(ValueError, match="no hologram"):
        network().calibrate(torch.zeros(0, 32, 32))


def test_features_are_read_at_image_row_and_column():
    volume = torch.arange(2 * 3 * 4 * 5).view(2, 3, 4, 5)
    read = at(volume, torch.tensor([1, 0]), torch.tensor([2, 3]), torch.tensor([4, 0]))
    assert torch.equal(read, torch.stack([volume[1, :, 2, 4], volume[0, :, 3, 0]]))

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from mnist_helpers.errors import InputError
from mnist_helpers.model import MnistCNN
from mnist_helpers.summary import describe


def test_the_table_of_our_network():
    summary = describe(MnistCNN())
    shapes = ["x".join(map(str, layer.output_shape)) for layer in summary.layers]
    assert shapes == [
        "32x26x26", "64x24x24", "128x22x22", "128x11x11", "32x11x11", "64x9x9", "128x7x7",
        "10x7x7", "10x1x1",
    ]  # fmt: skip
    fields = [layer.receptive_field for layer in summary.layers]
    assert fields == [(n, n) for n in (3, 5, 7, 8, 8, 12, 16, 16, 28)]
    assert [layer.stride for layer in summary.layers] == [(1, 1)] * 3 + [(2, 2)] * 6
    assert summary.parameters == 189_984
    assert summary.multiply_adds == 52_159_872


def test_the_text_lines_up_and_is_what_a_cell_shows():
    summary = describe(MnistCNN())
    text = str(summary)
    for word in ("conv_block_1.2 Conv2d", "128x22x22", "189,984", "52,159,872"):
        assert word in text
    assert len({len(line) for line in text.splitlines()}) == 1  # columns line up
    assert len(text.splitlines()) == len(summary.layers) + 4  # heading, total and two rules
    assert repr(summary) == text


NETWORKS = {
    "plain": [nn.Conv2d(1, 2, 3), nn.Conv2d(2, 3, 5)],
    "stride": [nn.Conv2d(1, 2, 3, stride=2), nn.Conv2d(2, 2, 3, stride=3), nn.Conv2d(2, 2, 2)],
    "padding": [nn.Conv2d(1, 2, 3, padding=1), nn.MaxPool2d(3, stride=1, padding=1)],
    "dilation": [nn.Conv2d(1, 2, 3, dilation=3), nn.AvgPool2d(2), nn.Conv2d(2, 2, 3, dilation=2)],
    "groups": [nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 3, groups=2), nn.AvgPool2d(3, 2)],
    "oblong": [nn.Conv2d(1, 2, (1, 5), stride=(2, 1)), nn.AvgPool2d((3, 2)), nn.Conv2d(2, 1, 3)],
    "same": [nn.Conv2d(1, 2, 5, padding="same"), nn.Conv2d(2, 2, 3, stride=2)],
}


def field_by_gradient(network, size):
    """Find what the middle output sees: the pixels it has a gradient with respect to."""
    for parameter in network.parameters():
        nn.init.constant_(parameter, 1.0)
    image = torch.rand(1, 1, size, size, requires_grad=True)
    output = network(image)
    output[0, :, output.shape[2] // 2, output.shape[3] // 2].sum().backward()
    seen = image.grad[0, 0] != 0
    rows, columns = seen.any(1).nonzero().flatten(), seen.any(0).nonzero().flatten()
    return (rows.max() - rows.min() + 1).item(), (columns.max() - columns.min() + 1).item()


@pytest.mark.parametrize("name", NETWORKS)
def test_receptive_fields_are_those_of_the_gradients(name):
    layers = [layer for layer in NETWORKS[name] if not isinstance(layer, nn.MaxPool2d)]
    network = nn.Sequential(*layers)  # a max-pool sends its gradient to one pixel alone
    measured = describe(network, (1, 60, 60)).layers[-1].receptive_field
    assert measured == field_by_gradient(network, 60)


@pytest.mark.parametrize("name", NETWORKS)
def test_strides_are_how_far_a_field_moves(name):
    network = nn.Sequential(*NETWORKS[name])
    summary = describe(network, (1, 60, 60)).layers[-1]
    last = network(torch.zeros(1, 1, 60, 60))
    assert summary.output_shape == tuple(last.shape[1:])
    product = [1, 1]
    for layer in network:
        stride = layer.stride if isinstance(layer.stride, tuple) else (layer.stride,) * 2
        product = [product[0] * stride[0], product[1] * stride[1]]
    assert summary.stride == tuple(product)


def test_a_max_pool_widens_the_view_as_a_mean_would():
    pooled = [describe(nn.Sequential(nn.Conv2d(1, 1, 3), pool(2), nn.Conv2d(1, 1, 3)))
              for pool in (nn.MaxPool2d, nn.AvgPool2d)]  # fmt: skip
    assert pooled[0].layers[-1].receptive_field == pooled[1].layers[-1].receptive_field == (8, 8)


@pytest.mark.parametrize("name", [*NETWORKS, "ours", "linear"])
def test_work_is_what_torchs_own_counter_counts(name):
    own = {
        "ours": MnistCNN(),
        "linear": nn.Sequential(nn.Conv2d(1, 3, 3), nn.Flatten(), nn.Linear(3 * 26 * 26, 7)),
    }
    network = own[name] if name in own else nn.Sequential(*NETWORKS[name])
    with FlopCounterMode(display=False) as counter:
        network(torch.zeros(1, 1, 28, 28))
    assert 2 * describe(network).multiply_adds == counter.get_total_flops()


def test_a_linear_layer_sees_the_whole_image():
    network = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(3 * 26 * 26, 7))
    summary = describe(network)
    assert summary.layers[-1].receptive_field == (28, 28)
    assert summary.layers[-1].parameters == 3 * 26 * 26 * 7 + 7
    assert [layer.name for layer in summary.layers] == ["0 Conv2d", "3 Linear"]


def test_the_model_is_left_as_it_was():
    model = MnistCNN().train()
    before = {name: p.clone() for name, p in model.named_parameters()}
    describe(model)
    assert model.training
    assert all(torch.equal(before[name], p) for name, p in model.named_parameters())
    assert not any(module._forward_hooks for module in model.modules())
    describe(model.eval())
    assert not model.training


def test_images_that_do_not_fit_are_named():
    with pytest.raises(InputError, match=r"does not take images of \(3, 28, 28\)"):
        describe(MnistCNN(), (3, 28, 28))


def test_parameters_of_layers_without_a_row_count():
    network = nn.Sequential(nn.Conv2d(1, 4, 3, bias=False), nn.BatchNorm2d(4))
    assert describe(network).parameters == 36 + 8
    assert len(describe(network).layers) == 1


def test_a_view_that_is_no_square_is_written_by_both_sides():
    network = nn.Sequential(nn.Conv2d(1, 2, (3, 5), stride=(1, 2)))
    (layer,) = describe(network).layers
    assert (layer.receptive_field, layer.stride) == ((3, 5), (1, 2))
    assert "3x5" in str(describe(network)) and "1x2" in str(describe(network))

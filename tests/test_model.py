import pytest
import torch
from torch import nn

from mnist_helpers.errors import ConfigError, InputError
from mnist_helpers.machine.hardware import place, seed_everything
from mnist_helpers.model import MnistCNN
from mnist_helpers.training.checkpoint import digest


def textbook_forward(model, images):
    """Compute the logits as the issue of the network reads: ReLU after each convolution."""
    convolutions = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
    maps = images
    for number, convolution in enumerate(convolutions):
        if number == 3:
            maps = nn.functional.max_pool2d(maps, 2)
        maps = nn.functional.conv2d(maps, convolution.weight.contiguous())
        if number < len(convolutions) - 1:
            maps = nn.functional.relu(maps)
    return nn.functional.adaptive_avg_pool2d(maps, 1).flatten(1)


def test_layers_are_those_of_the_mission():
    model = MnistCNN()
    convolutions = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
    described = [(c.in_channels, c.out_channels, c.kernel_size[0]) for c in convolutions]
    assert described == [
        (1, 32, 3), (32, 64, 3), (64, 128, 3), (128, 32, 1), (32, 64, 3), (64, 128, 3),
        (128, 10, 1),
    ]  # fmt: skip
    assert all(c.bias is None and c.padding == (0, 0) and c.stride == (1, 1) for c in convolutions)
    assert sum(p.numel() for p in model.parameters()) == 189_984
    assert [name for name, _ in model.named_children()] == [
        "input_block", "conv_block_1", "transition_block", "conv_block_2", "output_block",
    ]  # fmt: skip
    assert sum(isinstance(m, nn.ReLU) for m in model.modules()) == 6


def test_values_are_those_of_the_textbook_network():
    seed_everything(3)
    model, images = MnistCNN(), torch.randn(4, 1, 28, 28)
    assert torch.allclose(model(images), textbook_forward(model, images), atol=1e-4)


def test_logits_are_not_cut_off_at_zero():
    seed_everything(1)
    logits = MnistCNN()(torch.randn(8, 1, 28, 28))
    assert (logits < 0).any() and (logits > 0).any()


def test_he_keeps_the_spread_of_signals_and_the_default_loses_it():
    spreads = {}
    for init in ("he", "default"):
        seed_everything(1)
        model = MnistCNN(init)
        inputs = []
        model.output_block.register_forward_hook(lambda m, i, o, seen=inputs: seen.append(i[0]))
        model(torch.randn(16, 1, 28, 28))
        spreads[init] = inputs[0].std().item()
    assert 0.3 < spreads["he"] < 3
    assert spreads["default"] < 0.02


def test_he_draws_what_he_et_al_say():
    seed_everything(1)
    weights = [m.weight for m in MnistCNN().modules() if isinstance(m, nn.Conv2d)]
    for number, weight in enumerate(weights):
        gain = 1 if number == len(weights) - 1 else 2  # no ReLU follows the last
        expected = (gain / weight[0].numel()) ** 0.5
        assert weight.std().item() == pytest.approx(expected, rel=3 / weight.numel() ** 0.5)


def test_he_is_the_default_and_others_are_refused():
    seed_everything(1)
    plain = MnistCNN()
    seed_everything(1)
    assert torch.equal(plain.input_block[0].weight, MnistCNN("he").input_block[0].weight)
    with pytest.raises(ConfigError, match="init must be one of he, default, got 'xavier'"):
        MnistCNN("xavier")


@pytest.mark.parametrize("shape", [(28, 28), (1, 28, 28), (2, 3, 28, 28), (2, 1, 32, 32)])
def test_another_shape_is_named_with_its_mend(shape):
    with pytest.raises(InputError, match=r"\(N, 1, 28, 28\), got .*reshape"):
        MnistCNN()(torch.zeros(shape))


def test_convolutions_work_with_channels_innermost():
    model = place(MnistCNN(), torch.device("cpu"), "channels_last")
    seen = []
    model.conv_block_1.register_forward_hook(lambda m, i, o: seen.append(o))
    model(torch.randn(2, 1, 28, 28))
    assert seen[0].is_contiguous(memory_format=torch.channels_last)


def test_the_pool_is_the_mean_of_each_map():
    maps = torch.arange(24.0).reshape(1, 2, 3, 4)
    assert MnistCNN().output_block[1:](maps).tolist() == [[5.5, 17.5]]


def test_a_seed_draws_the_weights_in_an_order_that_stays():
    seed_everything(1)
    ours = MnistCNN()
    seed_everything(1)
    by_hand = MnistCNN("default")
    layers = [module for module in by_hand.modules() if isinstance(module, nn.Conv2d)]
    for layer in layers:
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    nn.init.kaiming_normal_(layers[-1].weight, nonlinearity="linear")  # drawn once more
    assert digest(ours.state_dict()) == digest(by_hand.state_dict())

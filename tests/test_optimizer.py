"""What the fast recipe adds: a learning rate that moves, an average, lower precision."""

import copy
import dataclasses
import math

import pytest
import torch
from torch import nn

from mnist_helpers.config import TrainConfig
from mnist_helpers.data.loaders import make_loader
from mnist_helpers.errors import CheckpointError, ConfigError
from mnist_helpers.machine.hardware import seed_everything
from mnist_helpers.model import MnistCNN
from mnist_helpers.training.checkpoint import digest, load_checkpoint, save_checkpoint
from mnist_helpers.training.fit import fit
from mnist_helpers.training.optimizer import Optimization
from mnist_helpers.training.step import evaluate, train_one_epoch
from tests.conftest import make_digits, make_linear


@pytest.fixture
def fast(tmp_path):
    folder = tmp_path / "checkpoints"
    return TrainConfig.recipe("fast", epochs=3, lr=0.003, device="cpu", checkpoint_dir=folder)


def test_one_cycle_rises_to_lr_and_falls_to_nearly_nothing():
    config = TrainConfig(
        epochs=2, schedule="one_cycle", lr=0.5, start=0.2, warmup=0.25, device="cpu"
    )
    optimization = Optimization(make_linear(), config.resolved(), steps=50)
    rates = []
    for _ in range(100):
        rates.append(optimization.optimizer.param_groups[0]["lr"])
        optimization.optimizer.step()
        optimization.after_step()
    assert rates[0] == pytest.approx(0.1)
    top = rates.index(max(rates))
    assert top == pytest.approx(25, abs=1) and max(rates) == pytest.approx(0.5, rel=0.01)
    assert rates[: top + 1] == sorted(rates[: top + 1])
    assert rates[top:] == sorted(rates[top:], reverse=True)
    assert 0 < rates[-1] < 0.001
    assert {group["momentum"] for group in optimization.optimizer.param_groups} == {0.9}


@pytest.mark.parametrize("steps", [1, 4])
def test_one_cycle_without_a_step_to_rise_in_is_refused(steps):
    config = TrainConfig(epochs=1, schedule="one_cycle").resolved()
    with pytest.raises(ConfigError, match=f"no step to rise in: {steps} steps"):
        Optimization(make_linear(), config, steps)
    Optimization(make_linear(), config, 5)


def scaled_step(optimization, images):
    """Take one step as float16 has it on a GPU."""
    if not optimization.scaler.is_enabled():
        optimization.scaler = torch.amp.GradScaler("cpu", growth_interval=1)
    optimization.scaler.scale(optimization.model(images).square().mean()).backward()
    optimization.scaler.step(optimization.optimizer)
    optimization.scaler.update()
    optimization.after_step()


def test_a_step_whose_gradients_overflow_is_skipped_and_the_schedule_moves():
    config = TrainConfig(schedule="one_cycle", device="cpu").resolved()
    optimization = Optimization(make_linear(), config, steps=50)
    weights = copy.deepcopy(optimization.model.state_dict())
    rate = optimization.optimizer.param_groups[0]["lr"]
    # The first step is the one of which PyTorch would warn, and warnings are errors here.
    scaled_step(optimization, torch.full((2, 1, 28, 28), 1e30))
    assert digest(optimization.model.state_dict()) == digest(weights)
    assert optimization.optimizer.param_groups[0]["lr"] > rate


@pytest.mark.parametrize("scale", [1.0, 1024.0], ids=["float32", "float16"])
@pytest.mark.parametrize(("gradient", "moved_by"), [(3.0, 3.0), (30.0, 4.0)])
def test_a_long_gradient_is_shortened_and_a_short_one_left(scale, gradient, moved_by):
    config = TrainConfig(clip_norm=4.0, lr=1.0, momentum=0, device="cpu").resolved()
    optimization = Optimization(make_linear(), config, steps=5)
    optimization.scaler = torch.amp.GradScaler("cpu", init_scale=scale, enabled=scale > 1)
    before = [weight.detach().clone() for weight in optimization.model.parameters()]
    weights = list(optimization.model.parameters())
    weights[0].grad = torch.zeros_like(weights[0])
    weights[1].grad = torch.zeros_like(weights[1])
    weights[0].grad[0, 0] = 0.6 * gradient * scale  # one length for all weights together
    weights[1].grad[0] = 0.8 * gradient * scale
    # float16 gradients come scaled, and are not cut as such
    optimization.scaler.scale(torch.zeros(()))
    optimization.scaler.step(optimization.optimizer)
    moved = [(old - new).sum() for old, new in zip(before, weights, strict=True)]
    assert torch.stack(moved).norm().item() == pytest.approx(moved_by, rel=1e-4)
    assert (moved[0] / moved[1]).item() == pytest.approx(0.75, rel=1e-4)


def test_the_scale_of_float16_gradients_is_kept(tmp_path):
    optimization, other = (
        Optimization(make_linear(), TrainConfig(device="cpu").resolved(), 5) for _ in "12"
    )
    scaled_step(optimization, torch.rand(2, 1, 28, 28))
    other.scaler = torch.amp.GradScaler("cpu")
    assert optimization.scaler.get_scale() == 2 * other.scaler.get_scale()
    other.load(optimization.state() | {"epoch": 1}, tmp_path)
    assert other.scaler.get_scale() == optimization.scaler.get_scale()
    without = {key: value for key, value in optimization.state().items() if "scaler" not in key}
    with pytest.raises(CheckpointError, match="holds no state of the scaler"):
        other.load(without | {"epoch": 1}, tmp_path)


def test_the_average_is_that_of_all_steps_the_older_ones_fading():
    config = TrainConfig(average=0.9, device="cpu").resolved()
    optimization = Optimization(make_linear(), config, steps=5)
    assert optimization.tested is not optimization.model
    expected = None
    for _ in range(5):
        with torch.no_grad():
            optimization.model[1].weight += torch.randn(10, 784)
        optimization.after_step()
        now = optimization.model[1].weight.detach().double()
        expected = now.clone() if expected is None else 0.9 * expected + 0.1 * now
    assert torch.allclose(optimization.tested[1].weight.double(), expected, atol=1e-5)


def test_without_an_average_the_model_itself_is_tested():
    optimization = Optimization(make_linear(), TrainConfig(device="cpu").resolved(), steps=5)
    assert optimization.tested is optimization.model


def test_a_fast_run_stopped_and_resumed_is_the_run_that_was_not(loaders, sets, fast, tmp_path):
    def stop(record):
        if record.epoch == 1:
            raise KeyboardInterrupt

    whole, parts, fresh = (
        make_linear(),
        make_linear(),
        nn.Sequential(nn.Flatten(), nn.Linear(784, 10)),
    )
    history = fit(whole, *sets, fast)
    again = dataclasses.replace(fast, checkpoint_dir=tmp_path / "parts")
    fit(parts, *sets, again, on_epoch_end=stop)
    resumed = fit(fresh, *sets, again, resume_from=again.checkpoint_dir)
    assert digest(fresh.state_dict()) == digest(whole.state_dict())
    assert [r.lr for r in resumed] == [r.lr for r in history]
    one, two = (
        load_checkpoint(folder / "mnist_model_epoch_3.pth")
        for folder in (fast.checkpoint_dir, again.checkpoint_dir)
    )
    assert digest(one["optimizer_state_dict"]) == digest(two["optimizer_state_dict"])
    assert digest(one["trained_state_dict"]) == digest(two["trained_state_dict"])
    # The tested weights are those the model ends with, and those a reader loads.
    assert digest(one["model_state_dict"]) == digest(whole.state_dict())
    assert digest(one["model_state_dict"]) != digest(one["trained_state_dict"])
    assert evaluate(whole, loaders[1]).accuracy == one["test_accuracy"]
    finished = fit(make_linear(), *sets, fast, resume_from=fast.checkpoint_dir)
    assert finished == history


def test_one_cycle_cannot_go_on_longer_than_it_was_planned(sets, fast):
    fit(make_linear(), *sets, fast)
    longer = dataclasses.replace(fast, epochs=4)
    with pytest.raises(CheckpointError, match="epochs: 3 then, 4 now"):
        fit(make_linear(), *sets, longer, resume_from=fast.checkpoint_dir)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda c: c.pop("trained_state_dict"), "lacks trained_state_dict"),
        (lambda c: c["trained_state_dict"].popitem(), "holds a different network"),
        (lambda c: c["optimizer_state_dict"]["param_groups"][0].update(lr=5.0), "learning rate"),
    ],
)
def test_a_fast_checkpoint_that_does_not_fit_is_refused(sets, fast, damage, message):
    fit(make_linear(), *sets, fast)
    path = fast.checkpoint_dir / "mnist_model_epoch_3.pth"
    checkpoint = load_checkpoint(path)
    damage(checkpoint)
    save_checkpoint(path, checkpoint)
    with pytest.raises(CheckpointError, match=message):
        fit(make_linear(), *sets, fast, resume_from=path)


def test_trained_weights_that_are_no_numbers_are_refused(sets, fast):
    fit(make_linear(), *sets, fast)
    path = fast.checkpoint_dir / "mnist_model_epoch_3.pth"
    checkpoint = load_checkpoint(path)
    checkpoint["trained_state_dict"]["1.weight"][0, 0] = math.nan
    with pytest.raises(CheckpointError, match="weights that are NaN or infinite"):
        save_checkpoint(path, checkpoint)


@pytest.mark.slow
def test_bfloat16_learns_the_same_to_its_rounding_and_tests_in_float32():
    config = TrainConfig(batch_size=16, device="cpu", precision="bfloat16").resolved()
    loader = make_loader(make_digits(48), config, train=True)
    losses, models = {}, {}
    seen = []
    for precision in ("float32", "bfloat16"):
        seed_everything(1)
        model = models[precision] = MnistCNN()
        hook = model.input_block[0].register_forward_hook(lambda *a: seen.append(a[2].dtype))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
        losses[precision] = train_one_epoch(
            model, loader, nn.CrossEntropyLoss(), optimizer, precision=precision
        ).loss
        hook.remove()
    assert seen == [torch.float32] * 3 + [torch.bfloat16] * 3
    assert losses["bfloat16"] == pytest.approx(losses["float32"], rel=0.01)
    assert losses["bfloat16"] != losses["float32"]
    assert {p.dtype for p in models["bfloat16"].parameters()} == {torch.float32}
    logits = models["bfloat16"](torch.zeros(1, 1, 28, 28))
    assert logits.dtype == torch.float32


def test_the_precision_reaches_the_run_and_is_said_once(sets, config, capsys):
    config = dataclasses.replace(config, precision="bfloat16")
    half, full = make_linear(), make_linear()
    fit(half, *sets, config)
    assert capsys.readouterr().out.count("on cpu, bfloat16.") == 1
    fit(full, *sets, dataclasses.replace(config, precision="float32"))
    assert capsys.readouterr().out.count("on cpu, float32.") == 1
    assert digest(half.state_dict()) != digest(full.state_dict())


def test_the_memory_format_changes_the_layout_and_not_the_weights():
    config = TrainConfig(epochs=1, batch_size=8, device="cpu", checkpoint_dir=None)
    start = MnistCNN()
    for name, expected in (("contiguous", True), ("channels_last", False)):
        model = copy.deepcopy(start)
        chosen = dataclasses.replace(config, memory_format=name)
        fit(model, make_digits(8), make_digits(8), chosen)
        weight = model.conv_block_1[2].weight
        assert weight.is_contiguous() is expected
        assert weight.is_contiguous(memory_format=torch.channels_last) is not expected

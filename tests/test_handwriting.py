"""The experiments behind own handwriting: pictures of known truth, and the published weights."""

import hashlib
import io
import json

import numpy as np
import pytest
import torch
from PIL import Image

from experiments import handwriting, pretrain
from experiments.handwriting import Draw, overlap
from mnist_helpers import TrainConfig, evaluate, find_digits, load_mnist, load_pretrained, predict
from mnist_helpers.data.loaders import make_loader
from mnist_helpers.errors import CheckpointError
from mnist_helpers.pictures import CONFIDENT
from mnist_helpers.training import weights
from mnist_helpers.training.checkpoint import save_checkpoint
from mnist_helpers.training.folder import move_to_previous
from tests.test_checkpoint import example


@pytest.fixture(scope="module")
def sample(sample_root):
    return load_mnist(sample_root.parent)


@pytest.fixture(scope="module")
def model():
    return load_pretrained()


def picture_of(made):
    return Image.open(io.BytesIO(made.file))


def test_the_published_weights_are_those_of_the_card(model, sample):
    card = json.loads((weights.PRETRAINED.parents[1] / "results/pretrained.json").read_text())
    assert card["sha256"] == hashlib.sha256(weights.PRETRAINED.read_bytes()).hexdigest()
    assert float(card["test"].rstrip("%")) >= 99.4
    assert evaluate(model, make_loader(sample[1], TrainConfig(), train=False)).accuracy > 0.99
    assert not model.training


def test_where_the_published_weights_are_missing_a_line_says_so(monkeypatch, tmp_path):
    monkeypatch.setattr(weights, "PRETRAINED", tmp_path / "gone.pth")
    with pytest.raises(CheckpointError, match="there is no file"):
        load_pretrained()


def test_no_empty_sheet_is_a_one_with_99_per_cent(model):
    (empty,) = predict(model, [np.zeros((28, 28), np.uint8)])
    assert empty.doubtful and empty.confidence < CONFIDENT


@pytest.mark.parametrize("kind", handwriting.SCENES)
def test_a_photograph_shows_its_digit_where_it_says(kind, sample):
    digits, labels = sample[0].images.numpy(), sample[0].labels.numpy()
    for held_out in (False, True):
        one, other = (
            handwriting.photograph(kind, digits, 7, int(labels[7]), Draw(3, held_out))
            for _ in range(2)
        )
        assert one.file == other.file and one.label == labels[7]
    likeness = np.corrcoef(one.cut.ravel(), digits[7].ravel())[0, 1]
    assert likeness > 0.4, "the digit as cut out by its truth"


@pytest.mark.parametrize("kind", handwriting.ROWS)
def test_a_row_has_its_boxes_around_its_digits(kind, sample):
    made = handwriting.row(kind, sample[0].images.numpy(), Draw(4, False))
    grey = np.asarray(picture_of(made).convert("L"), float)
    for left, top, right, bottom in made.boxes:
        piece = grey[int(top) : int(bottom), int(left) : int(right)]
        assert piece.min() < 0.7 * np.median(piece.max(axis=0))
    truth = made.boxes[0]
    assert max(overlap(digit.box, truth) for digit in find_digits(picture_of(made))) > 0.5


def test_a_whole_measurement_knows_right_from_wrong(model, sample):
    digits, labels = sample[0].images.numpy(), sample[0].labels.numpy()
    made = [handwriting.photograph("plain", digits, n, int(labels[n]), Draw(n, False))
            for n in range(6)]  # fmt: skip
    line = handwriting.measure(model, made, scores := [], [])
    assert line["ours"] == line["ceiling"] == 1 and line["sure_wrong"] == 0 and len(scores) == 6
    for picture in made:
        picture.label = (picture.label + 1) % 10
    line = handwriting.measure(model, made, [], [])
    assert line["ours"] == 0 and line["sure_wrong"] > 0.5
    steps = handwriting.measure_steps(model, [made])
    assert [step["right"] for step in steps] == [0] * len(handwriting.STEPS)


def test_only_ones_zeros_and_sevens_get_habits_and_only_ink_is_added(sample):
    torch.manual_seed(1)
    images, labels = sample[0].images[:1000] / 255, sample[0].labels[:1000]
    habits = pretrain.with_habits(images, labels)
    changed = (habits != images).flatten(1).any(1)
    assert set(labels[changed].tolist()) == {0, 1, 7} and (habits >= images).all()
    assert 0.3 < changed[labels == 1].float().mean() < 0.7
    bent = pretrain.penned(pretrain.bent(habits))
    assert bent.shape == images.shape and bent.min() >= 0 and bent.max() <= 1
    assert (bent.flatten(1).amax(1) > 0.5).all(), "no digit vanishes"


def test_pictures_of_no_digit_are_of_all_kinds_and_some_are_blank(sample):
    made = pretrain.make_no_digits(sample[0].images, 80, seed=1)
    assert made.shape == (80, 28, 28) and made.dtype == torch.uint8
    assert (made.flatten(1).amax(1) == 0).sum() >= 3 and len(set(map(bytes, made.numpy()))) > 70


def test_pretraining_learns_from_bent_digits(sample):
    torch.manual_seed(1)
    config = TrainConfig.recipe("fast", epochs=2, batch_size=36, average=0.9, device="cpu")
    seen = []
    network = pretrain.train(
        pretrain.MnistCNN(), sample[0].part(1_500, seed=1), config,
        lambda tested, epoch: seen.append(epoch),
    )  # fmt: skip
    accuracy = evaluate(network, make_loader(sample[1], config, train=False)).accuracy
    assert seen == [1, 2] and accuracy > 0.4


def test_the_published_weights_doubt_what_is_no_digit_and_few_digits(model, sample):
    others = pretrain.make_no_digits(sample[0].images, 200, seed=2)
    doubted, doubts = (
        np.mean([answer.doubtful for answer in predict(model, some)])
        for some in (sample[1].images, others)
    )
    assert doubts > 0.9 and doubted < 0.05


def test_no_run_moves_or_takes_the_published_weights(tmp_path):
    published = tmp_path / weights.PRETRAINED.name
    published.write_bytes(weights.PRETRAINED.read_bytes())
    save_checkpoint(tmp_path / "mnist_model_epoch_1.pth", example())
    move_to_previous(tmp_path, None)
    assert published.is_file() and not list(tmp_path.glob("mnist_model_epoch_*"))
    assert not list(tmp_path.glob(f"previous*/{published.name}"))

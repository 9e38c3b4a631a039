"""What we compare ourselves with, written plainly, as tutorials do."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Optimizer
from torch.utils.data import DataLoader, Dataset, Subset
from torchvision import datasets, transforms

Loader = DataLoader[Any]
Rival = tuple[nn.Module, Loader, Loader, nn.Module, Optimizer]  # the loaders train and test


def plain_network(init: str = "default") -> nn.Module:
    """Return our network as a tutorial would write it, with PyTorch's initial weights or He's."""
    model = nn.Sequential(
        nn.Conv2d(1, 32, 3, bias=False), nn.ReLU(),
        nn.Conv2d(32, 64, 3, bias=False), nn.ReLU(),
        nn.Conv2d(64, 128, 3, bias=False), nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(128, 32, 1, bias=False), nn.ReLU(),
        nn.Conv2d(32, 64, 3, bias=False), nn.ReLU(),
        nn.Conv2d(64, 128, 3, bias=False), nn.ReLU(),
        nn.Conv2d(128, 10, 1, bias=False),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(),
    )  # fmt: skip
    if init == "he":
        convolutions = [layer for layer in model if isinstance(layer, nn.Conv2d)]
        for layer in convolutions[:-1]:
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        nn.init.kaiming_normal_(convolutions[-1].weight, nonlinearity="linear")
    return model


class BasicExample(nn.Module):
    """The network of PyTorch's basic MNIST example: two convolutions, two dense layers."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 32, 3), nn.Conv2d(32, 64, 3)
        self.fc1, self.fc2 = nn.Linear(9216, 128), nn.Linear(128, 10)
        self.dropout1, self.dropout2 = nn.Dropout(0.25), nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.conv1(x))
        x = functional.max_pool2d(functional.relu(self.conv2(x)), 2)
        x = torch.flatten(self.dropout1(x), 1)
        x = self.dropout2(functional.relu(self.fc1(x)))
        return functional.log_softmax(self.fc2(x), dim=1)


def plain_data(root: Path, train: bool, count: int | None = None) -> Dataset[Any]:
    """Return MNIST through torchvision, or its first `count` images."""
    steps = transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.1307,), (0.3081,))])
    digits = datasets.MNIST(root, train=train, transform=steps)
    return digits if count is None else Subset(digits, range(count))


def plain_epoch(
    model: nn.Module, loader: Loader, loss_fn: nn.Module, optimizer: Optimizer, device: torch.device
) -> tuple[float, float]:
    """Run the usual loop: it adds up loss and right answers, and looks at them at every step."""
    model.train()
    running_loss, correct, seen = 0.0, 0, 0
    for images, labels in loader:
        images, labels = images.to(device), labels.to(device)
        optimizer.zero_grad()
        outputs = model(images)
        loss = loss_fn(outputs, labels)
        loss.backward()
        optimizer.step()
        running_loss += loss.item() * len(labels)
        correct += (outputs.argmax(1) == labels).sum().item()
        seen += len(labels)
    return running_loss / seen, correct / seen


def plain_accuracy(model: nn.Module, loader: Loader, device: torch.device) -> float:
    model.eval()
    with torch.no_grad():
        right = sum(
            (model(images.to(device)).argmax(1) == labels.to(device)).sum().item()
            for images, labels in loader
        )
    return float(right / len(loader.dataset))  # type: ignore[arg-type]  # it has a length


def usual_recipe(
    root: Path,
    device: torch.device,
    batch_size: int,
    count: int | None = None,
    init: str = "default",
) -> Rival:
    """Rival (a): our recipe in the usual loop."""
    model = plain_network(init).to(device)
    train = DataLoader(plain_data(root, True, count), batch_size, shuffle=True)
    test = DataLoader(plain_data(root, False), 1000)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    return model, train, test, nn.CrossEntropyLoss(), optimizer


def basic_example(
    root: Path, device: torch.device, batch_size: int, count: int | None = None
) -> Rival:
    """Rival (b): network, loss and optimizer of PyTorch's basic example."""
    model = BasicExample().to(device)
    train = DataLoader(plain_data(root, True, count), batch_size, shuffle=True)
    test = DataLoader(plain_data(root, False), 1000)
    optimizer = torch.optim.Adadelta(model.parameters(), lr=1.0)
    return model, train, test, nn.NLLLoss(), optimizer

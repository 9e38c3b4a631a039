"""Reusable parts of the MNIST tutorial: data, network, training loop, checkpoints, plots."""

import lazy_loader

# Each name is imported when it is first used: PyTorch and matplotlib take seconds to load. Which
# names there are, and where they come from, stands in __init__.pyi.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

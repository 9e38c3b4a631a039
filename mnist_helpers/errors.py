"""The errors of this package: each names what was received and how to mend it."""


class MnistHelpersError(Exception):
    """Anything this package refuses. Catch this one to catch them all."""


class ConfigError(MnistHelpersError, ValueError):
    """A setting has a value that cannot be used, or two settings disagree."""


class DataError(MnistHelpersError):
    """The data files are missing, damaged or cannot be had."""


class InputError(MnistHelpersError, ValueError):
    """A tensor or an argument has the wrong shape, type or range."""


class CheckpointError(MnistHelpersError):
    """A checkpoint is missing, damaged, or belongs to another run."""


class TrainingError(MnistHelpersError):
    """Training went wrong: the loss is no longer a number, for instance."""


class WorkerError(TrainingError):
    """One of several processes has ended, and the others cannot go on."""

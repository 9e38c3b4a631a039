"""The types of error this package raises; each message stands where it is raised."""


class MnistHelpersError(Exception):
    """Anything this package refuses. Catch this one to catch them all."""


class ConfigError(MnistHelpersError, ValueError):
    """A setting has a value that cannot be used, or two settings disagree."""


class DataError(MnistHelpersError):
    """The data files are missing or damaged, or cannot be downloaded."""


class InputError(MnistHelpersError, ValueError):
    """A tensor or an argument has the wrong shape, type or range."""


class CheckpointError(MnistHelpersError):
    """A checkpoint is missing, damaged, or belongs to another run."""


class DamagedError(CheckpointError):
    """A checkpoint was read, and isn't whole or isn't what was written."""


class TrainingError(MnistHelpersError):
    """Training went wrong: the loss is no longer a number, for instance."""


class WorkerError(TrainingError):
    """One of several processes has ended, and the others cannot go on."""

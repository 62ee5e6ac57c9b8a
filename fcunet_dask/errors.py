"""Every exception the package raises on purpose.

Each class also inherits from the built-in that a caller would expect, so
``except ValueError`` keeps working.
"""


class FcunetError(Exception):
    """Base class: catch this to catch everything the package raises."""


class SchemaError(FcunetError, ValueError):
    """A dataset lacks a variable, or a variable has the wrong dims or dtype."""


class ParameterError(FcunetError, ValueError):
    """An argument has a value that makes no sense; the message says which would."""


class CalibrationError(FcunetError, ValueError):
    """A pixel size, unit or angle is missing or impossible."""


class ReaderError(FcunetError, OSError):
    """A file could not be recognised or read."""


class StoreError(FcunetError, OSError):
    """An output exists, is in use, is full, or does not fit what is written to it."""


class OtherRunError(StoreError):
    """A store that was begun with other parameters."""


class StoreInUseError(StoreError):
    """Another process is writing to it."""


class ComputeError(FcunetError, RuntimeError):
    """Workers did not come, or died on a block again and again."""


class SimulationError(FcunetError, ValueError):
    """A crystal, recipe or library cannot be simulated or trusted."""


class ModelError(FcunetError, RuntimeError):
    """Weights are missing, or do not fit the patterns."""


class AnalysisError(FcunetError, RuntimeError):
    """The scan does not contain what an analysis needs (disks, a lattice)."""


class MissingDependencyError(FcunetError, ImportError):
    """An optional extra is not installed."""

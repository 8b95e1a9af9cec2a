"""Every error that mbrl_gym raises on purpose derives from `MbrlGymError`."""

__all__ = [
    "DamagedFileError",
    "InvalidActionError",
    "InvalidSettingError",
    "MbrlGymError",
    "MissingPackageError",
    "PlanningError",
    "UnsupportedSpaceError",
]


class MbrlGymError(Exception):
    """Root of the package's errors."""


class InvalidSettingError(MbrlGymError, ValueError):
    """An argument is out of its range; the message names what was given and what is allowed."""


class InvalidActionError(MbrlGymError, ValueError):
    """An action that no environment can execute: wrong shape, not a number, or no such choice."""


class UnsupportedSpaceError(MbrlGymError, TypeError):
    """A space that a model, planner or agent cannot handle; the message names what would work."""


class MissingPackageError(MbrlGymError, ImportError):
    """An optional package is not installed; the message names the extra that brings it."""


class PlanningError(MbrlGymError, RuntimeError):
    """A planner found no candidate with a finite return."""


class DamagedFileError(MbrlGymError, ValueError):
    """A file that is truncated, corrupted, or was not written by this package."""

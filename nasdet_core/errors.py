"""Errors of the core: one root, a handful of subclasses that also inherit the fitting builtin.

Every message is one sentence that says what was expected, what came, where, and what to do. The core knows no
HTTP and no exit codes; services and the command line render these errors.
"""

from __future__ import annotations

from collections.abc import Mapping


def printable(text: str) -> str:
    """One line that any terminal and any database takes: undecodable bytes and control characters are escaped."""
    encodable = text.encode("utf-8", "backslashreplace").decode("utf-8")
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in encodable)


class NasDetError(Exception):
    """Root of every error that nasdet raises on purpose."""


class GenotypeError(NasDetError, ValueError):
    """A genotype does not belong to its search space."""


class UnknownNameError(NasDetError, ValueError):
    """A name or a key that this version does not know; the message lists the known ones."""


class SettingError(NasDetError, ValueError):
    """A known setting with a value that is missing, of the wrong type or out of range."""


class IncompatiblePartsError(NasDetError, ValueError):
    """A backbone, neck and head that do not fit each other."""


class LimitError(NasDetError, ValueError):
    """A limit that is malformed or that nothing in the space can satisfy."""


class SearchSpaceExhaustedError(NasDetError, RuntimeError):
    """No new candidate within the limits was found in the allowed number of attempts."""


class TrialOrderError(NasDetError, RuntimeError):
    """An algorithm was asked or told out of trial-number order."""


class TrialResultError(NasDetError, ValueError):
    """A trial's result contradicts its state (a succeeded trial without a finite value)."""


class DatasetError(NasDetError, ValueError):
    """A dataset is missing, broken or has drifted from its manifest.

    Its message can be printed and stored whatever bytes a stranger's file names hold.
    """

    def __init__(self, message: str) -> None:
        super().__init__(printable(message))


class RecalibrationError(NasDetError, ValueError):
    """Batch-norm statistics cannot be re-estimated as asked."""


class CheckpointError(NasDetError, ValueError):
    """A saved state does not belong to the object that should load it.

    Its message can be printed and stored whatever names a stranger's file holds.
    """

    def __init__(self, message: str) -> None:
        super().__init__(printable(message))


class RecipeError(NasDetError, ValueError):
    """A recipe has an unknown key or a value out of range."""


class NonFiniteLossError(NasDetError, ArithmeticError):
    """A training step produced an infinite or undefined loss; carries every loss of the step."""

    def __init__(self, losses: Mapping[str, float], step: int) -> None:
        super().__init__(losses, step)  # the arguments, so that the error survives a copy to another process
        self.losses: dict[str, float] = dict(losses)
        self.step = step

    def __str__(self) -> str:
        shown = ", ".join(f"{name}={value:g}" for name, value in self.losses.items())
        return (
            f"the loss must be finite, but step {self.step} gave {shown}; "
            "lower the learning rate or clip the gradients, and check the data for degenerate boxes"
        )

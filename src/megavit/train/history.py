"""One line of a run's diary: what it cost up to a validation, and what it brought."""

from dataclasses import asdict, dataclass
from typing import Any

from megavit.errors import BundleError


@dataclass(frozen=True)
class EpochRecord:
    """Measured at a validation: mostly at the end of an epoch, but not of each where they are short.

    Attributes:
        epoch: passes over the training images so far; whole at the end of one.
        step: optimiser steps so far.
        seconds: since the command began, pauses left out.
        train_loss: mean over the steps since the last record, of augmented images and smoothed labels; None
            where every one of them was skipped.
        val_loss: mean negative log-likelihood in nats on the validation images.
        val_accuracy: share in [0, 1].
        learning_rate: of the last step.
    """

    epoch: float
    step: int
    seconds: float
    train_loss: float | None
    val_loss: float
    val_accuracy: float
    learning_rate: float

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON types, for `from_dict`."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "EpochRecord":
        """The reverse of `to_dict`.

        Raises:
            BundleError: naming each part that is missing or of the wrong kind.
        """
        from pydantic import TypeAdapter, ValidationError

        try:
            return TypeAdapter(EpochRecord).validate_python(data)
        except ValidationError as error:
            found = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
            raise BundleError(f"a stored epoch is not as megavit writes it: {found}") from error

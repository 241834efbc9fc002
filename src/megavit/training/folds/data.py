"""The images of a cross-validation: all of them, and with the splits of each fold."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from megavit.data.dataset import LabeledImages, Sample


@dataclass(frozen=True)
class FoldsData:
    """The images of a cross-validation.

    Attributes:
        whole: all images, with the splits that a single run would have.
        folds: the images with the splits of each fold, without those that the data defines for test.
    """

    whole: LabeledImages
    folds: Sequence[LabeledImages]

    @property
    def test_samples(self) -> tuple[Sample, ...]:
        """The test images that the data defines, which are in no fold."""
        in_folds = {sample.name for sample in self.folds[0].samples}
        return tuple(sample for sample in self.whole.samples if sample.name not in in_folds)

    @property
    def val_names(self) -> set[str]:
        """The names of the validation images that the data defines, which are those of every fold."""
        return set.intersection(*({sample.name for sample in fold.in_split("val")} for fold in self.folds))

    def count_untested(self) -> int:
        """Return the number of images that are always trained on, as their class has no other image."""
        tested = {sample.name for fold in self.folds for sample in fold.in_split("test")} | self.val_names
        return sum(sample.name not in tested for sample in self.folds[0].samples)

    def list_ensemble_samples(self) -> list[Sample]:
        """Return all images with their splits for an ensemble: those of the folds are for training.

        Each was trained on by all models but that of its fold.
        """
        test, val = {sample.name for sample in self.test_samples}, self.val_names
        return [
            replace(one, split="test" if one.name in test else "val" if one.name in val else "train")
            for one in self.whole.samples
        ]

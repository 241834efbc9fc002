"""Puts a real run of the demo into README.md: what it prints, and figures of its report.

make readme
"""

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BEGIN, END = "<!-- demo: written by `make readme` -->", "<!-- end of demo -->"
PICTURES = ("examples.png", "curves.png")


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "megavit", "demo"]
        done = subprocess.run(
            command, cwd=folder, check=True, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        for picture in PICTURES:
            shutil.copy(Path(folder) / "runs" / "demo" / "figures" / picture, ROOT / "docs" / "images" / picture)
    lines = [line.rstrip() for line in done.stdout.strip().splitlines()]
    epochs = [line for line in lines if line.startswith("epoch")]
    shown = [line for line in lines if line not in epochs[2:-2]]
    shown.insert(shown.index(epochs[1]) + 1, "...")
    text = "\n".join(["```", "$ megavit demo", *shown, "```"])
    readme = ROOT / "README.md"
    page = readme.read_text(encoding="utf-8")
    pattern = re.compile(f"{re.escape(BEGIN)}.*?{re.escape(END)}", re.DOTALL)
    if not pattern.search(page):
        raise SystemExit(f"README.md has no place for the demo: it must have {BEGIN} and {END}")
    readme.write_text(pattern.sub(lambda _: f"{BEGIN}\n{text}\n{END}", page), encoding="utf-8")


if __name__ == "__main__":
    main()

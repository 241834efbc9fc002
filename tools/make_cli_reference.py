"""Write docs/reference/cli.md from the command line's own help.

make docs
"""

from pathlib import Path

from megavit.cli.app import app, load_command
from megavit.cli.command_list import COMMANDS

PAGE = Path(__file__).resolve().parent.parent / "docs" / "reference" / "cli.md"


def main() -> None:
    """Write the page."""
    for name in COMMANDS:
        load_command(name)
    reference = app.generate_docs(output_format="markdown")
    PAGE.write_text(reference.replace("# megavit", "# Command line", 1), encoding="utf-8")


if __name__ == "__main__":
    main()

"""`python -m megavit` is `megavit`."""

from megavit.cli.app import main

main()

"""`from zeta.models import MegaVit`, as the model's documentation shows.

`zeta` has no `__init__.py`: as a namespace package it gives way to an installed zetascale, whose `zeta` is a
regular package, and shares no file with it.
"""

from megavit.model.vit import MegaVit

__all__ = ["MegaVit"]

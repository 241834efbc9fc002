"""Which version of a bundle lies in its folder, looked at again and again."""

import threading
import time

from megavit.serve.model_sources import version_of

LOOK_SECONDS = 1.0
"""Between two looks at the bundle's files."""


class Lookout:
    """Looks in a thread of its own: where a disk, or what is mounted, no longer answers, a look does not end.

    Attributes:
        version: as it was found last; None where there was none.
    """

    def __init__(self, source: str) -> None:
        self._source = source
        self.version = version_of(source)
        threading.Thread(target=self._look, daemon=True).start()

    def _look(self) -> None:
        while True:
            time.sleep(LOOK_SECONDS)
            self.version = version_of(self._source)

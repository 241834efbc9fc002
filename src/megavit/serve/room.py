"""How many bytes of images the server holds."""

from megavit.serve.refusal import Refusal


class Room:
    """Bytes of bodies that are being read, and of images that are not yet answered, with a limit to all of them.

    What is taken is what has arrived, not what was announced: a slow client keeps no room from the others.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self.taken = 0

    def check(self, announced: int) -> None:
        """Raise a Refusal where a body of so many bytes would find no room."""
        if self.taken + announced > self._most:
            raise Refusal(429, "the server holds as many bytes as it may; try again in a moment", retry_after=1)

    def take(self, arrived: int) -> None:
        self.check(arrived)
        self.taken += arrived

    def give(self, done_with: int) -> None:
        self.taken -= done_with

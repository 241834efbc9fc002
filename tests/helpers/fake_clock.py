"""A clock that only tests move, in place of the module `time`."""


class FakeClock:
    """Stands still but for `sleep`: the same on a fast machine and a busy one."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds

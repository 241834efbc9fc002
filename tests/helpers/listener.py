"""A reporter that keeps what was said."""

from dataclasses import dataclass, field

from megavit.training.progress import NullReporter


@dataclass
class Listener(NullReporter):
    """What was said, line by line."""

    lines: list[str] = field(default_factory=list)

    def say(self, text: str) -> None:
        self.lines.append(text)

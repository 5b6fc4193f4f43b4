"""What a check says: where, what is wrong, and what to do about it."""

from dataclasses import dataclass


@dataclass(frozen=True, order=True)
class Problem:
    path: str
    line: int
    what: str
    help: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.what}\n    help: {self.help}"

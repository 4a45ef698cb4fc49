"""One frozen dataclass a command, checked when built; standard library only."""

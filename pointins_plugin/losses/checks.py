"""Checks of the losses' options."""


def check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    """Raise ValueError unless ``value`` is one of ``choices``."""
    if value not in choices:
        raise ValueError(f"{name} must be one of {choices}, found {value!r}")


def check_counts(**counts: int | None) -> None:
    """Raise ValueError unless every count is 1 or more; None stands for no limit."""
    for name, count in counts.items():
        if count is not None and not count >= 1:
            raise ValueError(f"{name} must be 1 or more, found {count}")

"""Leave one subject out: who is trained on and who is tested on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from megc_stream.errors import DataError

__all__ = ["Fold", "leave_one_out", "of_persons"]


class _OfPerson(Protocol):
    @property
    def person(self) -> str: ...


_T = TypeVar("_T", bound=_OfPerson)


@dataclass(frozen=True)
class Fold:
    """Persons to train on and persons to test on; it cannot be made with a person in both.

    Raises
    ------
    DataError
        A person is in both parts, or nobody is trained on.
    """

    name: str
    training: tuple[str, ...]
    test: tuple[str, ...]

    def __post_init__(self) -> None:
        both = sorted(set(self.training) & set(self.test))
        if both:
            raise DataError(f"fold {self.name}: subject {both[0]} is trained on and tested on; expected disjoint parts")
        if not self.training:
            raise DataError(f"fold {self.name}: nobody to train on; leaving one subject out needs at least 2 subjects")


def leave_one_out(persons: Iterable[str]) -> list[Fold]:
    """Return one fold per person, by name: this person tests, all others train."""
    names = sorted(set(persons))
    return [Fold(name, tuple(other for other in names if other != name), (name,)) for name in names]


def of_persons(items: Sequence[_T], persons: Iterable[str]) -> list[_T]:
    """Return the items of some persons."""
    wanted = set(persons)
    return [item for item in items if item.person in wanted]

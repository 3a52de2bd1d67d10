"""Tasks in several processes: each is done once, in order of beginning, and a process that is old makes way."""

from __future__ import annotations

import os

import pytest

from nasrlm.bench import processes
from nasrlm.bench.processes import completed


def _who(number: int) -> tuple[int, int]:
    return number, os.getpid()


def _failing(number: int) -> int:
    return 1 // number


def test_in_one_process_calls_are_made_here_and_in_their_order() -> None:
    calls = [(number,) for number in range(5)]
    assert list(completed(_who, calls)) == [((number,), (number, os.getpid())) for number in range(5)]


def test_every_call_is_made_once_by_as_many_processes() -> None:
    found = dict(completed(_who, [(number,) for number in range(6)], workers=2))
    assert sorted(found) == [(number,) for number in range(6)]
    assert all(number == told for (number,), (told, _) in found.items())
    assert os.getpid() not in (pids := {pid for _, pid in found.values()}) and 1 <= len(pids) <= 2


def test_a_process_that_is_old_makes_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "LIFE", 0.0)
    assert len({pid for _, (_, pid) in completed(_who, [(1,), (2,), (3,)], workers=2)}) == 3


def test_nothing_is_begun_after_the_limit() -> None:
    begun = completed(_who, [(1,), (2,)], minutes=1e-9)
    assert list(begun) == []


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_is_raised(workers: int) -> None:
    with pytest.raises(ZeroDivisionError):
        list(completed(_failing, [(1,), (0,)], workers=workers))

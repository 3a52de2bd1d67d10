"""Networks of a space as a sequence, and their draw."""

from __future__ import annotations

import pytest

import search_spaces
from search_spaces.networks import Networks, sample_networks


def test_models_are_built_when_they_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    space = search_spaces.get("nasbench_macro")
    built: list[object] = []
    monkeypatch.setattr(space, "to_onnx", built.append)
    networks = Networks(space, list(space.enumerate())[:5])
    assert len(networks) == 5 and not built
    part = networks[1:3]
    assert isinstance(part, Networks) and part.architectures == networks.architectures[1:3] and not built
    _ = networks[4]
    assert built == [networks.architectures[4]]


def test_no_two_that_are_drawn_do_the_same() -> None:
    space = search_spaces.get("nasbench201")
    networks = sample_networks(space, 50, seed=3)
    assert len({space.canonical(arch) for arch in networks.architectures}) == 50
    assert networks.architectures == sample_networks(space, 50, seed=3).architectures
    assert networks.architectures != sample_networks(space, 50, seed=4).architectures


def test_a_small_space_is_used_up_and_what_is_known_left_out() -> None:
    space = search_spaces.get("nasbench_macro")
    every = list(space.enumerate())
    known = {space.canonical(arch) for arch in every[:-40]}
    unknown = {space.canonical(arch) for arch in every[-40:]} - known
    found = sample_networks(space, 8192, seed=0, known=every[:-40])
    assert 0 < len(unknown) == len(found)
    assert {space.canonical(arch) for arch in found.architectures} == unknown

"""Starts of one search space: which networks are read, and that the card says what was done."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from experiments import specialise
from experiments.specialise import networks_of
from search_spaces.errors import UsageError
from surrogates.rlm import RLM
from surrogates.rlm.specialising import SpecialisingConfig

needs_tables = pytest.mark.skipif(not os.environ.get("NASRLM_DATA"), reason="NASRLM_DATA names no folder of tables")


@needs_tables
def test_proxies_are_those_of_the_table_or_of_small_copies() -> None:
    networks, proxies = networks_of("nasbench201", SpecialisingConfig(40, 8))
    assert len(networks) == len(proxies) == 40 and proxies["zcp_synflow"].notna().all()
    networks, proxies = networks_of("nasbench_macro", SpecialisingConfig(12, 3))
    assert len(networks) == 12 and list(np.flatnonzero(proxies["zen"].notna())) == [0, 1, 2]
    assert networks_of("fbnet", SpecialisingConfig(4, 4))[1].isna().all(axis=None)  # too dear


@needs_tables
def test_a_start_is_made_with_its_card_and_not_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(specialise, "TRAINING", replace(specialise.TRAINING, epochs=1))
    monkeypatch.setattr(specialise, "JUDGED", 16)
    command = ["specialise", "--spaces", "nasbench_macro", "--networks", "24", "--scored", "2", "--out", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", command)
    specialise.main()
    made = tmp_path / "rlm-small-for-nasbench_macro"
    text = (made / "README.md").read_text()
    assert "24 networks of the space" in text and "of 2 of the networks" in text and "rlm-small-without-" in text
    assert RLM.from_pretrained(made).metrics == RLM.from_pretrained("rlm-small-without-nasbench_macro").metrics
    capsys.readouterr()
    specialise.main()
    assert "is there already" in capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", ["specialise", "--spaces", "hiaml2"])
    with pytest.raises(UsageError, match="hiaml2"):
        specialise.main()

"""Damage to saved steps is found out or of no effect: a short form of `python -m benchmarks.torture flips`."""

import os

import pytest

from benchmarks.torture import flips
from fgan.run import checkpoint

FLIPS = flips.MANIFEST_FLIPS + flips.PAYLOAD_FLIPS
SOME = [*range(0, flips.MANIFEST_FLIPS, 97), *range(flips.MANIFEST_FLIPS, FLIPS, 61), FLIPS, FLIPS + 1]
EACH = range(FLIPS + flips.TRUNCATIONS, FLIPS + flips.TRUNCATIONS + len(flips.CASES))
PAYLOAD = flips.MANIFEST_FLIPS + 3


@pytest.mark.parametrize("i", [*SOME, *EACH])
def test_damage_is_found_out_or_of_no_effect(tmp_path, i):
    assert flips.case(i, tmp_path)["verdict"] == "ok"


def test_cases_depend_on_their_number_alone(tmp_path):
    found = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        found.append(flips.case(PAYLOAD, tmp_path / name))
    assert found[0] == found[1] != flips.case(PAYLOAD + 1, tmp_path)


def test_the_sweep_sees_what_is_not_verified(tmp_path, monkeypatch):
    """Without the hashes a wrong value passes: the verdict is no formality."""
    for check in ("check_file", "require_only"):
        monkeypatch.setattr(checkpoint, check, lambda *_: None)
    i = EACH[list(flips.CASES).index("payload of the older step")]
    assert flips.case(i, tmp_path) == {"what": "payload of the older step", "verdict": "a wrong value"}


def test_the_counts_add_up():
    assert 5 * len(flips.CASES) <= flips.COUNT - flips.RUNS - FLIPS - flips.TRUNCATIONS and flips.COUNT <= 2000


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:checkpoint .* cannot be used")  # which is how damage is found out
@pytest.mark.parametrize("i", range(flips.COUNT - flips.RUNS, flips.COUNT - flips.RUNS + 4))
def test_whole_runs(tmp_path, i):
    assert os.listdir(tmp_path) == []
    assert flips.case(i, tmp_path)["verdict"] == "ok"

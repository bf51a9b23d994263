"""What to trust: each kind of warning is known by words of its own, and the gravest decides."""

import re
from pathlib import Path

import numpy as np
import pytest

import estimators
import estimators as est
from estimators.advice import COVERS, EXACT, KINDS, explanation, kinds, verdict

SOURCES = "\n".join(
    re.sub(r'"\s*\n\s*f?"', "", path.read_text())
    for path in Path(estimators.__file__).parent.rglob("*.py")
    if path.name != "advice.py"
)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.known_by)
def test_each_kind_is_said_somewhere_and_has_a_remedy(kind):
    assert kind.known_by in SOURCES
    assert kind.why.endswith(".") and kind.remedy.endswith(".")
    assert verdict("neural", [f"kl: {kind.known_by} …"]).startswith(kind.verdict)


def test_the_gravest_warning_decides_and_all_are_explained():
    warnings = ["heavy tails: …", "lower bound only: …", "x: neighbouring rows resemble each other"]
    assert [kind.known_by for kind, _ in kinds(warnings)] == [
        "neighbouring rows resemble", "lower bound only", "heavy tails",
    ]  # fmt: skip
    assert verdict("neural", warnings) == "interval may be too narrow" and len(explanation(warnings)) == 3
    assert verdict("neural", ["x: int64 cast to float64"]) == COVERS
    assert verdict("exact", ["disjoint support: …"]) == EXACT


def test_an_estimate_says_what_to_trust():
    x = np.random.default_rng(0).integers(0, 4, (300, 1))
    e = est.estimate(x, x[:200] + 1, "kl")
    assert e.trust.startswith("not identifiable: ") and "never occur in y" in e.trust
    assert e.as_json()["trust"] == e.trust and e.explain().startswith(e.trust)
    assert est.estimate(x, x[:200], "js").trust == COVERS

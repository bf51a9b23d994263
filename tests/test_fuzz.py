"""A thousand damaged and hostile inputs, the first of those that `benchmarks.torture` tries: each is read,
or refused by
an error that is declared, in one line, in time, in memory, and without a trace elsewhere."""

import pytest

from benchmarks.torture import fuzz

CASES = 1000
PIECES = 20  # tests that share the cases, so that a fault is found among fifty

pytestmark = [  # of orbax and its threads, when they fail
    pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.mark.parametrize("piece", range(PIECES))
def test_input_of_any_kind_is_read_or_refused(piece, tmp_path):
    wrong = {}
    for i in range(piece, CASES, PIECES):
        scratch = tmp_path / str(i)
        scratch.mkdir()
        record = fuzz.case(i, scratch)
        if record["verdict"] != "ok":
            wrong[i] = record
    assert wrong == {}

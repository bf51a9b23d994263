"""What to trust in an estimate: one verdict, by its warnings, and what each kind of warning means and asks for.

Every warning of an estimate is recognised by words of its own. Kinds stand in the order in which they count: the first
that applies gives the verdict, and where none does the interval covers.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

EXACT = "exact: it follows from the samples without estimation"
COVERS = "interval covers"


class Kind(NamedTuple):
    """Warnings that hold the words `known_by`: the verdict they mean, why in plain words, and what to do next."""

    known_by: str
    verdict: str
    why: str
    remedy: str


_UNKNOWN, _NARROW, _LOWER = "not identifiable", "interval may be too narrow", "lower bound only"
KINDS = (
    Kind(
        "no upper end",
        _UNKNOWN,
        "One set has rows where the other shows none. If it can have none there, the divergence is infinite, and no "
        "sample can rule that out.",
        "Ask for a bounded divergence (js, total_variation, squared_hellinger), or merge rare values.",
    ),
    Kind(
        "if exactly, and these are continuous",
        _UNKNOWN,
        "One variable follows from the other as closely as these rows can show. If it does exactly, the mutual "
        "information is infinite.",
        "Report the lower end; more rows raise it as long as no noise shows.",
    ),
    Kind(
        "rounded differently",
        _NARROW,
        "The same law stored to different decimals has different values, which alone makes divergences large.",
        "Round both sets alike: decimals= (--round).",
    ),
    Kind(
        "if it numbers the rows",
        _NARROW,
        "A number of the row says nothing of the law it was drawn from, but may tell one set from the other.",
        "Leave the column out: drop= (--drop).",
    ),
    Kind(
        "neighbouring rows resemble",
        _NARROW,
        "Rows of a series say less than as many independent rows.",
        "Ask with dependence='time' (--dependence time), or give groups; shuffle rows that were only sorted.",
    ),
    Kind(
        "too short for blocks",
        _NARROW,
        "The series is hardly longer than the time over which its rows depend on each other.",
        "Take a longer series.",
    ),
    Kind(
        "the sets are not independent",
        _NARROW,
        "Rows that both sets share make them look more alike than their laws are.",
        "Draw the sets independently, or leave the shared rows out of one.",
    ),
    Kind(
        "repeat an earlier",
        _NARROW,
        "Copies say nothing new. They share a fold and count once in the interval, as if each original were one row.",
        "Leave copies out, or give groups that say which rows belong together.",
    ),
    Kind(
        "lies so far from 0",
        _NARROW,
        "The numbers have lost digits before they came here.",
        "Subtract an offset from both sets before they are stored.",
    ),
    Kind(
        "transpose both",
        _NARROW,
        "With more columns than rows there is too little to learn a density ratio from.",
        "Transpose the arrays if columns are samples; else take fewer columns.",
    ),
    Kind(
        "which both sets may follow",
        _NARROW,
        "Most of this divergence rests on rows so far out that the other set has none there. The value is that of t "
        "laws, which no test rejects, but tails of another shape may hide beyond the rows.",
        "Ask for a bounded divergence, which needs no law.",
    ),
    Kind(
        "telescoping: where",
        _NARROW,
        "The sets hardly overlap. The value rests on Gaussian laws near each, and on how well these fit.",
        "Compare method='gaussian'; report that the sets are far apart rather than how far.",
    ),
    Kind(
        "dependence that no closed form shows may be missing",
        _NARROW,
        "The value is what Gaussian laws, t laws and pairs of columns show. In so many columns networks would need far "
        "more rows to see another kind of dependence.",
        "Take the value as a lower end unless such a law is plausible; reduce the columns to those that matter.",
    ),
    Kind(
        "lower bound only",
        _LOWER,
        "Critics of twice the rows found clearly more, or networks found what no closed form shows, or the value rests "
        "on rows so far out that the other set has none there. There may be more.",
        "Take more rows, or report the lower end.",
    ),
    Kind(
        "neighbours predict more",
        _LOWER,
        "Neighbouring rows predict one variable from the other better than the critics could.",
        "Take more rows, or report the lower end.",
    ),
    Kind(
        "separable",
        _LOWER,
        "A critic tells every row of one set from every row of the other. Samples of this size cannot say how far "
        "apart the sets are.",
        "Report that they are, by at least the lower end.",
    ),
    Kind(
        "saturated",
        _LOWER,
        "The value is larger than the logarithm of the number of rows, the most that rows alone can certify.",
        "Take more rows, or trust the value only as far as the closed forms behind it.",
    ),
    Kind(
        "more than the critics: the interval reaches there",
        COVERS,
        "Nearest neighbours show more mutual information than the critics found. The interval holds both estimates.",
        "Take more rows: the two come together.",
    ),
    Kind(
        "effective sample size",
        COVERS,
        "A few rows carry most of the weight of this divergence. The interval allows for it, and is wide.",
        "Ask for a bounded divergence, or take more rows.",
    ),
    Kind(
        "heavy tails",
        COVERS,
        "Part of the value rests on ratios beyond the number of rows. The interval allows for that part.",
        "Ask for a bounded divergence, or take more rows.",
    ),
)


def kinds(warnings: Sequence[str]) -> Iterator[tuple[Kind, str]]:
    """The kinds among the warnings, each with the first warning of its kind, in the order in which they count."""
    for kind in KINDS:
        if found := next((w for w in warnings if kind.known_by in w), None):
            yield kind, found


def verdict(method: str, warnings: Sequence[str]) -> str:
    """What to trust, in one line."""
    if method == "exact":
        return EXACT
    kind, found = next(kinds(warnings), (None, ""))
    if kind is None or kind.verdict == COVERS:
        return COVERS
    return f"{kind.verdict}: {found.partition(': if it cannot')[0]}" if kind.verdict == _UNKNOWN else kind.verdict


def explanation(warnings: Sequence[str]) -> list[str]:
    """Lines that say of each kind of warning what it means and what to do."""
    lines = [f"- {kind.why} {kind.remedy}" for kind, _ in kinds(warnings)]
    return lines or ["- No warning limits the interval. It covers the divergence at its confidence over draws of rows."]

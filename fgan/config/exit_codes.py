"""The exit codes of errors: those of this package carry theirs, those of libraries have one by their type."""


def exit_code(error: Exception) -> int | None:
    """The documented code of an error we raise ourselves; None for a bug, which keeps its traceback."""
    if (code := getattr(error, "exit_code", None)) is not None:
        return code
    from estimators.divergences.table import UnknownDivergence
    from estimators.estimation import BadArgument
    from estimators.samples.arrays import DataError

    if isinstance(error, (UnknownDivergence, BadArgument)):
        return 2
    if isinstance(error, DataError):
        return 3
    if isinstance(error, RuntimeError):
        return 7 if "RESOURCE_EXHAUSTED" in str(error) else None
    return 7 if isinstance(error, (OSError, MemoryError)) else None

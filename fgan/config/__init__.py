"""Everything a user may set about a run: the fields with their bounds (`schema`), reading and writing them as TOML
(`toml`), and the checks between fields (`checks`). It imports `estimators` and names tables of other rooms as text, so
that help needs no jax. A new setting is one field in `schema`, with its bound or choices in its annotation; a rule that
joins several fields is one entry in `checks`; a new name for an old field is one line of `RENAMED` in `fields`.
"""

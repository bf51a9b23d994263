"""Networks of the two players: flax modules from noise z [n, latent] to points x [n, d], and from points to v [n].

This room imports estimators and fgan.config. A new kind of generator is a function and an entry of GENERATORS in
`generators`, a new kind of critic one of CRITICS in `critics`.
"""

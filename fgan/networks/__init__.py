"""Generator and critic networks: flax modules from rows to rows, z [n, latent] → x [n, d], and to numbers, x → v [n].

This room imports estimators and fgan.config. A new kind of generator is a function and an entry of GENERATORS in
`generators`, a new kind of critic one of CRITICS in `critics`.
"""

"""Real hosts for the tests: user-mode Linux guests in a network namespace.

The modules, from the inside out: `spec` (what is asked for), `plan` (every name
and address that follows from it), `store` (the cache), `kernel` and `image` (root
file systems), `network`, `uml` (how one host is booted), `guests` (its life), `ssh`,
`inventory`, `capture`, and `lab`, which puts them together for `cli`.
"""

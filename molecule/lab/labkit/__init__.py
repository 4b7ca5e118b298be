"""Real hosts for the tests: UML or QEMU guests in a network namespace.

The modules, from the inside out: `spec` (what is asked for), `plan` (every name
and address that follows from it), `image` (root file systems, cached), `network`,
`uml` and `qemu` (how one host is booted), `guests` (its life), `ssh`,
`inventory`, `capture`, and `lab`, which puts them together for `cli`.
"""

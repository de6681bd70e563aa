"""Measurements beside rivals: each module is a program, `python -m benchmarks.NAME`; README.md explains the rows."""

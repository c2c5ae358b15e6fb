"""Benchmarks: Homeport against the same work written by hand, in one process, in one run.

``python -m bench`` (``make bench``) prints a table and writes ``bench/latest.json``. What is
measured, against what, and how to read it is in ``docs/benchmarks.md``.
"""

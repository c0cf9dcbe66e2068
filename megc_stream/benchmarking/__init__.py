"""Benchmarks that ship with the package: material with known truth, measures, and what is measured."""

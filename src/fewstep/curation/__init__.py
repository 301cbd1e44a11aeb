"""Prompt lists: read, cleaned, freed of duplicates and leaks, sorted by kind, sampled and split.

torch is for `semantic` alone. Every function is deterministic and linear in the number
of prompts, up to the sorting of numbers.
"""

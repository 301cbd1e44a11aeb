"""Prompt lists: read, cleaned, freed of duplicates and leaks, sorted by kind, sampled and split.

Nothing here needs torch, but `semantic`. Every function is deterministic and linear in the number
of prompts, up to the sorting of numbers.
"""

"""Worlds: prompt sources whose true pictures are known."""

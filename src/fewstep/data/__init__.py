"""Prompts, pictures and precomputed samples, and the order in which they come."""

"""The recipe of the Shapes world's teacher. The shipped weights were made by it but for the two
differences that their model card tells.

Hardware: two CPU cores, no GPU. Duration: 24 minutes for the autoencoder and about 105 minutes for
the rest, on a machine that was busy with other work at the same time. Score: 49 % of test prompts
fully right at 20 steps and w = 2 (LOG.md, 2026-11-21).
"""

"""The recipe of the Shapes world's teacher. The shipped weights were made by it but for the two
differences that their model card tells.

Hardware: two CPU cores, no GPU. Duration: about 200 minutes, of them 24 for the autoencoder, on a
machine that was busy with other work at the same time. Score: 79 % of test prompts fully right at
20 steps and w = 2 (docs/teacher.md).
"""

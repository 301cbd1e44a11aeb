"""How the model that comes with the package was made: the teacher of the Shapes world.

Hardware: two CPU cores, no GPU. Duration: 24 minutes for the autoencoder and about 95 minutes for
the rest, on a machine that was busy with other work at the same time. Scores: `docs/teacher.md`.
"""

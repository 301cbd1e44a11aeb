"""The recipe of the Shapes world's teacher. The shipped weights came from an interrupted run of it
on two levels of the world (their model card tells), and it has not been run whole since.

Hardware: two CPU cores, no GPU. Duration: 24 minutes for the autoencoder and about 95 minutes for
the rest, on a machine that was busy with other work at the same time. Scores: the model card.
"""

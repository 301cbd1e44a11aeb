"""The doctor: what is wrong with a pipeline, before anybody trains with it.

A check asks one question of the experiment as it was built and answers with evidence. Checks stand
on one another: with time flipped nothing that the model draws means anything, so what stands on the
convention is then not looked at, and the first failure is the one to repair.
"""

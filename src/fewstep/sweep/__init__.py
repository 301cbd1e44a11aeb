"""A sweep: many short runs of one recipe, compared so that luck is not taken for progress.

`space` is what may vary, `plan` everything that was decided before the first run, `score` how a
trained student is judged, `decide` when one trial may be called better than another, `store` the
folder and its locks, `runner` one trial, `sampler` and `propose` where the next change comes from,
`worker` the loop of one process, `result` what is made of it all.
"""

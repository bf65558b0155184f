"""The life of a run and of a release.

`run` is the only module that knows the order of a run, `publish` the only one that knows the order of a release. Every
other module here is one step: it takes values, returns values, and calls no other step.
"""

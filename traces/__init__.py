"""What a recording is: the table model, its readers, and the run folder.

This package imports nothing when imported, so that a GPU host without polars can record:
``errors`` and ``run`` need only the standard library; ``model`` and the readers need polars.
"""

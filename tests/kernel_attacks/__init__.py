"""Candidates that cheat, one file each with its strategy in the docstring, beside controls; ``catalogue.py`` lists them."""

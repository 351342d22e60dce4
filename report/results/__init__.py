"""docs/results.md, made from recorded runs."""

"""Bounds from runs: which runs may set them, how wide they are, and every reason not to."""

"""A slow, obvious second implementation of what `analyze` computes, and traces nasty enough to tell them apart."""

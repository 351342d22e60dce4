"""What it cost: one table of an analysis a file, each from the attributed operations."""

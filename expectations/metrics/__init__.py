"""What a mechanism claim may name: each metric is read off an analysis by one function."""

"""The HTML page of a job of ranks."""

"""Two recordings side by side: which stages are the same, where the time went, and what else changed."""

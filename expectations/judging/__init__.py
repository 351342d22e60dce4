"""From evidence to verdicts: what a run offers, why it may be refused, and how sure a speedup is."""

"""Two sides held against each other: what the words name, both analysed, where the difference lies, and what limits it."""

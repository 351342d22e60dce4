"""A job of many ranks: one small partial for each, and what they say together."""

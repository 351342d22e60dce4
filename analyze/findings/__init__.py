"""What is slow, in sentences: `find.find` asks every rule of `rules.RULES`, and ranks what they say by what it costs."""

"""Verdicts for continuous integration: JUnit XML, Markdown, GitHub's step summary."""

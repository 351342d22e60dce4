"""Expectation files: read strictly, written in one place, compared, and described by a JSON Schema."""

"""Builders of small recordings for tests."""

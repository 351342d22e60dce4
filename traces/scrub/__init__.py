"""Copies to give away: traces and run folders without environment, paths, users and hosts."""

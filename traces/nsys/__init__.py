"""Nsight Systems exports: an untrusted SQLite file, its tables by schema, and the trace that they make."""

"""A trace for other programs: Perfetto's timeline and folders of tables."""

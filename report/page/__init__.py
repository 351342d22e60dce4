"""The HTML page: one file a section, put together in page.py."""

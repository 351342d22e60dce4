"""Whose an operation and an instant is: ranges as stages, launches, what the host was doing, and the window."""

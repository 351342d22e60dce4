"""The command line: thin commands over the other folders.

Each command is one file in ``commands/`` whose function ``run`` is the command and whose docstring is its help:
a short paragraph that parses, loads, computes, shows and leaves. ``main`` finds it; ``console`` prints.
"""

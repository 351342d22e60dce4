"""What other programs and people rely on, as committed snapshots, and what changing it asks for (``docs/contracts.md``).

    current.py     the same facts, read off the code and its real outputs
    rules.py       snapshot against code: what broke, what is new, and what either demands
    *.json         the snapshots: {group: {entry: what it is}}

``python -P scripts/contracts.py --write`` refreshes them, ``tests/test_contracts.py`` is the guard.
"""

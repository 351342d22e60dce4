"""Whole answers as a yardstick: what the commands said of known recordings, and whether they still say so.

    calls.py         which command lines
    answers.py       a command line in this process, its answer without what depends on the machine
    differences.py   where two answers differ: table, column, first row
    store.py         answers kept in files, found by the recording's content
    samples/         the answers on traces/samples, one file a sample
    elsewhere.json.xz   the answers on recordings that are not in the repository

``python -P scripts/goldens.py --check|--write`` is the way in, ``tests/test_goldens.py`` the guard.
"""

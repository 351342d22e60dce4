"""Hostile input, made from a seed, and the rules that no answer may break: ``make fuzz``.

seeds       small honest recordings, runs, bundles ... of which damage is made
damage      damage to bytes, texts, JSON
exports, profiles, folders, lines     cases: a folder with input, and the command lines that look at it
truth       what an input says by plain SQL or JSON, without any code of the project
rules       what must hold of every answer
child       one case in a process of its own, within limits, its files watched
campaign    many of them; what breaks a rule is written to ``found/``, which the tests repeat for good
kills       commands killed, on full and read-only disks, two at once
coverage    inputs that are chosen by the code they reach
"""

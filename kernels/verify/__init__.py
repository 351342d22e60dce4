"""`aisp-trace kernels verify`: does a generated kernel compute what it should, and how long does it take by its trace?

parent.py   owns seeds, references and the verdict         child.py    runs the candidate, one call at a time
    plan.py      which calls there will be                     candidates.py  a .cu library or a .py file as one function
    talk.py      questions and answers over a socket           memory.py      guard bands, poison, changing addresses
    errors.py    outputs against float64
    recording.py, judge.py, names.py, physics.py   what the trace says
    sanitize.py  compute-sanitizer
    result.py    the verdict and its JSON
"""

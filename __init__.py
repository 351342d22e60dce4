"""aisp-trace: every nanosecond of a run, and of a speedup, attributed exactly once.

The folders of this repository are the sub-packages; arrows point down only (``tests/test_architecture.py``):

    traces/        what a recording is: tables, readers, the run folder
    kernels/       CUDA sources and their build
    workloads/     the case studies, one file each
    capture/       recorders, rounds, host facts, ``stage()``
    analyze/       pure functions from tables to numbers
    expectations/  claims written down beforehand, and the judge
    report/        one offline HTML page
    cli/           thin commands
"""

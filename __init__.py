"""aisp-trace: every nanosecond of a run, and of a speedup, attributed exactly once.

The folders of this repository are the sub-packages; arrows point down only (``tests/test_architecture.py``):

    traces/        what a recording is: tables, readers (nsys/, kineto/), the run folder, scrubbed copies (scrub/)
    kernels/       CUDA sources and their build
    workloads/     the case studies, one file each
    capture/       recorders, rounds, host facts, ``stage()``
    analyze/       pure functions from tables to numbers: attribution/, accounts/, comparison/
    expectations/  claims/ written down beforehand, metrics/ they name, judging/, accepting/, comparing/
    report/        every face: page/, terminal/, documents/ (JSON), ci/, export/ for other programs
    cli/           the commands
"""

"""`aisp-trace kernels bench` and `search`: how long kernels take, in processes of their own.

parent.py   what is benched, one process for each implementation     child.py    times cases, runs energy loops
    steps.py     questions to a process that may die and is started again
    gpu.py       whether there is one
    limits.py    what memory and arithmetic allow
search.py   compile side by side, time one after the other, verify the best
result.py   what came of either; the JSON of bench
"""

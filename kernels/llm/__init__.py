"""`aisp-trace kernels emit --generator llm`: a model writes kernels, and what the compiler, the verifier and the trace say of
them goes into its next prompt.

    loop.py       rounds: prompt, reply, compiler, verifier; ends within its bounds
    endpoint.py   one exchange with an OpenAI-compatible endpoint, bounded in time and bytes
    prompt.py     what the model reads                reply.py   the source in what it answers
    judging.py    compiler, verifier and profile, and what of them may be sent
    stalls.py     what a verified kernel's warps wait for, where Nsight Compute is
    session.py    everything that happened, in files: it goes on where it stopped, on another day too
    result.py     one attempt, as the report shows it
"""

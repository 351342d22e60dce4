"""torch.profiler's JSON traces: events, devices and processes, and the trace that they make."""

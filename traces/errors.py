"""Every error a person may see. Each line of one is a sentence: what was asked, what was found, what to do.

    AispTraceError            exit 2, printed without a traceback
    ├── UsageError            an option, name or key that does not exist, or two that contradict
    ├── InputError            a file that cannot be read as what it was given for
    │   └── EmptyTraceError   a valid trace in which nothing can be measured
    ├── RecorderError         a recorder is absent, too old, or failed
    └── WorkloadError         a workload's process failed or answered nonsense

Anything else that escapes is a bug and keeps its traceback.
"""

from __future__ import annotations


class AispTraceError(Exception):
    """Base of all errors meant for people; ``exit_code`` is what the command line leaves with.

    One that tells several faults of a document (`faults.refusal`) has a sentence for each in ``args``.
    """

    exit_code = 2

    def __str__(self) -> str:
        return "; ".join(map(str, self.args))


class UsageError(AispTraceError):
    """Something was asked for that does not exist or does not fit together."""


class InputError(AispTraceError):
    """A file or folder is missing, unreadable, truncated, or not what it should be."""


class EmptyTraceError(InputError):
    """A readable trace without a single range, operation or call: nothing can be measured."""


class RecorderError(AispTraceError):
    """A recorder is missing, lacks a library, timed out, or recorded nothing."""


class WorkloadError(AispTraceError):
    """A workload's process failed, or its result file is missing or contradicts its manifest."""

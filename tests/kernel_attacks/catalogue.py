"""Which attacks there are, where they work, and by what each has to be refused (docs/kernels.md shows the same)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

FOLDER: Final = Path(__file__).parent

GROUPS: Final = ("control", "timing", "replay", "output", "not a kernel", "harness")


@dataclass(frozen=True, slots=True)
class Attack:
    """A candidate. `codes`: each of these reasons would do; none: it must pass. `cuda`: only a GPU finds it out."""

    name: str
    group: str
    codes: tuple[str, ...] = ()
    cuda: bool = False
    sanitizer: bool = False

    @property
    def file(self) -> Path:
        """The candidate's file."""
        return FOLDER / f"{self.name}.{'cu' if self.name.startswith('cuda_') else 'py'}"


ATTACKS: Final = (
    Attack("control_right", "control"),
    Attack("control_returns", "control"),
    Attack("control_wrong", "control", ("wrong",)),
    Attack("cuda_right", "control", cuda=True),
    Attack("cuda_wrong", "control", ("wrong",), cuda=True),
    Attack("triton_right", "control", cuda=True),
    Attack("host_thread", "timing", ("running", "unwritten")),
    Attack("deferred", "timing", ("running", "unwritten")),
    Attack("next_call", "timing", ("unwritten",)),
    Attack("lazy_output", "timing", ("not_plain",)),
    Attack("lazy_method", "timing", ("not_plain",)),
    Attack("patched_clocks", "timing", ("surroundings",)),
    Attack("patched_harness", "timing", ("surroundings",)),
    Attack("warm_up_detected", "timing", ("wrong",)),
    Attack("many_in_one", "timing", ("wrong",)),
    Attack("works_ahead", "timing", ("running", "ahead")),
    Attack("cuda_default_stream", "timing", ("stream",), cuda=True),
    Attack("cuda_side_stream", "timing", ("stream",), cuda=True),
    Attack("triton_other_stream", "timing", ("stream",), cuda=True),
    Attack("triton_host_thread", "timing", ("thread", "no_kernel"), cuda=True),
    Attack("triton_patched_synchronize", "timing", ("surroundings", "outlives"), cuda=True),
    Attack("triton_patched_clock", "timing", ("clock",), cuda=True),
    Attack("triton_audit_hook", "timing", ("surroundings", "outside", "harness_work"), cuda=True),
    Attack("triton_drops_calls", "timing", ("no_kernel",), cuda=True),
    Attack("replay_identity", "replay", ("wrong",)),
    Attack("replay_pointer", "replay", ("wrong",)),
    Attack("replay_content", "replay", ("wrong",)),
    Attack("replay_shape", "replay", ("wrong",)),
    Attack("replay_last_call", "replay", ("wrong",)),
    Attack("replay_file", "replay", ("wrong",)),
    Attack("cuda_copies_earlier", "replay", ("no_kernel",), cuda=True),
    Attack("triton_captured_graph", "replay", ("graph",), cuda=True),
    Attack("triton_copies_ahead", "replay", ("surroundings", "outside", "harness_work"), cuda=True),
    Attack("not_written", "output", ("wrong",)),
    Attack("untouched", "output", ("unwritten",)),
    Attack("constant", "output", ("wrong",)),
    Attack("passed_through", "output", ("alias",)),
    Attack("alias", "output", ("alias",)),
    Attack("inputs_mutated", "output", ("inputs_changed",)),
    Attack("expected_found", "output", ("wrong",)),
    Attack("nan", "output", ("wrong",)),
    Attack("shape_special_cased", "output", ("wrong",)),
    Attack("seed_special_cased", "output", ("wrong",)),
    Attack("lower_precision", "output", ("wrong",)),
    Attack("skipped_tail", "output", ("unwritten",)),
    Attack("beyond_the_end", "output", ("guards",)),
    Attack("reads_beyond", "output", ("wrong",)),
    Attack("drifts", "output", ("wrong",)),
    Attack("not_deterministic", "output", ("nondeterministic",)),
    Attack("views_misread", "output", ("wrong",)),
    Attack("cuda_beyond_end", "output", ("guards",), cuda=True),
    Attack("cuda_reads_beyond", "output", ("sanitizer",), cuda=True, sanitizer=True),
    Attack("cuda_race", "output", ("sanitizer", "wrong", "nondeterministic"), cuda=True, sanitizer=True),
    Attack("library_call", "not a kernel", ("library",), cuda=True),
    Attack("library_fallback", "not a kernel", ("library",), cuda=True),
    Attack("library_dead_branch", "not a kernel", ("library",), cuda=True),
    Attack("cuda_host_work", "not a kernel", ("host_work",), cuda=True),
    Attack("printed_results", "harness", ("wrong",)),
    Attack("socket_written", "harness", ("talked",)),
    Attack("early_exit", "harness", ("ended",)),
    Attack("left_by_exception", "harness", ("raised",)),
    Attack("crashes", "harness", ("crashed",)),
    Attack("hangs", "harness", ("hung",)),
    Attack("modules_changed", "harness", ("modules",)),
    Attack("functions_changed", "harness", ("surroundings",)),
    Attack("environment_changed", "harness", ("environment",)),
    Attack("settings_changed", "harness", ("surroundings",)),
    Attack("hook_left", "harness", ("surroundings",)),
    Attack("file_overwritten", "harness", ("environment",)),
)

"""Calibration: measure a machine's links in a process of their own, add where the figures come from, and keep them.

    measure(timeout)  ->  Calibration        store(calibration, folder)  ->  calibration_<hardware_key>.json

A stored calibration is never replaced silently: the difference is said first, and it takes `force`.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

from ..traces.calibration import SCHEMA, Calibration, Link, Measured, load_calibration, load_measured
from ..traces.errors import InputError, UsageError, WorkloadError
from ..traces.hardware_key import calibration_name
from ..traces.output import Kind, Output, check_container, make_container
from ..traces.run import write_json
from . import host
from .folder import portable
from .leftovers import after_grace, sentence
from .processes import GRACE_S, last_line, run_process
from .progress import seconds
from .rounds import untraced_environment

PROGRAM: Final = "aisp_trace.workloads.calibration"
CALIBRATION: Final = Kind("calibration")


def measure(timeout_s: float, say: Callable[[str], None]) -> Calibration:
    """Measure the links of this machine's GPUs; `say` hears what is about to happen.

    Raises `UsageError` if there are none and `WorkloadError` if the measuring process fails, takes too long or answers
    nonsense.
    """
    hardware = host.hardware("cuda")
    if not hardware.gpus:
        raise UsageError(
            "--calibrate found no NVIDIA GPU, and without one no link joins two memories, so there is nothing to calibrate; "
            "see `aisp-trace doctor`"
        )
    if left := after_grace(2 * GRACE_S):
        say(sentence(left))
    count = len(hardware.gpus)
    say(f"measuring the copies of {count} GPU{'s' if count > 1 else ''}; it may take some minutes")
    with tempfile.TemporaryDirectory(prefix="aisp-trace-") as temporary:
        folder = Path(temporary)
        command = (sys.executable, "-P", "-m", PROGRAM, "--result", str(folder / "result.json"))
        measured = _run(command, folder, timeout_s)
        shown = portable(command, folder)
    names = [device.name for device in measured.devices]
    if names != list(hardware.gpus):
        raise WorkloadError(
            f"torch calibrated {names}, but nvidia-smi lists {list(hardware.gpus)}; set CUDA_VISIBLE_DEVICES"
        )
    return Calibration(
        schema=SCHEMA,
        hardware_key=hardware.key,
        created_utc=host.now_utc(),
        command=shown,
        hardware=hardware,
        packages=host.package_versions(),
        git=host.git_state(Path(__file__).resolve().parents[1], root=True),
        facts=measured.facts,
        devices=measured.devices,
        links=measured.links,
        duplex=measured.duplex,
        costs=measured.costs,
    )


def store(calibration: Calibration, folder: Path, *, force: bool, say: Callable[[str], None]) -> Path:
    """Write `calibration` into `folder` (made if need be); returns the file.

    Where the file exists, `say` hears what differs, and without `force` a `UsageError` is raised and nothing written.
    Raises `InputError` or `UsageError` if nothing can be written there.
    """
    file = folder / calibration_name(calibration.hardware_key)
    output = Output(file, CALIBRATION, force=True)  # `store` asks itself, once it has said what differs
    check_container(folder, "--output")
    if folder.is_dir():
        output.check()
    if file.exists():
        try:
            old = load_calibration(file)
        except InputError as exc:
            say(f"the calibration that is there cannot be read: {exc}")
        else:
            for line in differences(old, calibration):
                say(line)
        if not force:
            raise UsageError(
                f"{file} exists and was kept; replace it with --force, or choose another folder with --output"
            )
    make_container(folder, "--output")
    with output.file() as building:
        write_json(building, calibration)
    return file


def differences(old: Calibration, new: Calibration) -> list[str]:
    """What a person should know before `new` replaces `old`: their circumstances, then each link's largest rate."""
    circumstances = {
        "made": (old.created_utc, new.created_utc),
        "driver": (old.hardware.driver, new.hardware.driver),
        "torch": (old.facts.get("torch"), new.facts.get("torch")),
        "commit": (old.git.get("commit"), new.git.get("commit")),
    }
    lines = [f"{what}: {a or 'unknown'} -> {b or 'unknown'}" for what, (a, b) in circumstances.items() if a != b]
    before, after = ({link.name: link for link in c.links} for c in (old, new))
    for name in [*before, *(n for n in after if n not in before)]:
        lines.append(
            f"{name}: {_rate(before.get(name))} -> {_rate(after.get(name))}{_change(before.get(name), after.get(name))}"
        )
    return lines


def _run(command: tuple[str, ...], folder: Path, timeout_s: float) -> Measured:
    log = folder / "stderr.log"
    try:
        finished = run_process(
            command,
            stdout=folder / "stdout.log",
            stderr=log,
            timeout_s=timeout_s,
            environment=untraced_environment(),
        )
    except OSError as exc:
        raise WorkloadError(f"the calibration cannot be started: {exc}") from exc
    if finished.timed_out:
        raise WorkloadError(f"the calibration did not end within {seconds(timeout_s)}; give it longer with --timeout")
    if finished.exit_code != 0:
        said = last_line(log) or "without a word"
        raise WorkloadError(
            f"the calibration ended with exit code {finished.exit_code} ({said}); see `aisp-trace doctor`"
        )
    try:
        return load_measured(folder / "result.json")
    except InputError as exc:
        raise WorkloadError(f"the calibration ended well but its result cannot be used: {exc}") from exc


def _rate(link: Link | None) -> str:
    return "none" if link is None else f"{link.best.median_bytes_per_s / 1e9:.2f} GB/s"


def _change(old: Link | None, new: Link | None) -> str:
    if old is None or new is None:
        return ""
    return f" ({(new.best.median_bytes_per_s / old.best.median_bytes_per_s - 1) * 100:+.1f} %)"

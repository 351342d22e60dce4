"""What the kernel and the driver allow: from literals, and as this machine really answers, with rights and without."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys

import pytest

from aisp_trace.capture import permissions
from aisp_trace.capture.folder import rank_here
from aisp_trace.capture.permissions import COUNTERS_REMEDY, SYS_ADMIN, cpu_samples, gpu_counters, refused_counters
from aisp_trace.tests.patience import PATIENCE_S


@pytest.mark.parametrize(
    ("paranoid", "refused", "in_container", "remedy"),
    [
        (2, None, False, ""),
        (4, None, True, ""),  # root, or CAP_PERFMON
        (3, errno.EACCES, False, "sysctl -w kernel.perf_event_paranoid=2 as root"),
        (4, errno.EACCES, True, "on the host, because a container shares its kernel's setting: sysctl -w"),
        (2, errno.EPERM, True, "the container's seccomp profile refuses it: docker run --cap-add=PERFMON"),
        (2, errno.ENOENT, False, "this machine offers no counters"),
        (None, errno.ENOSYS, False, "this machine offers no counters"),
    ],
)
def test_processor_samples(paranoid: int | None, refused: int | None, in_container: bool, remedy: str) -> None:
    found = cpu_samples(paranoid, refused, in_container)
    assert found.remedy.startswith(remedy) and bool(found.remedy) == bool(remedy)
    assert refused is None or errno.errorcode[refused] in found.found


@pytest.mark.parametrize(
    ("restricted", "capabilities", "remedy"),
    [
        (False, 0, ""),
        (True, 1 << SYS_ADMIN, ""),
        (True, ~(1 << SYS_ADMIN) & 0xFFFFFFFFFF, COUNTERS_REMEDY),
        (None, 0, ""),
    ],
)
def test_gpu_counters(restricted: bool | None, capabilities: int, remedy: str) -> None:
    assert gpu_counters(restricted, capabilities).remedy == remedy


def test_refused_counters_are_told_from_other_failures() -> None:
    assert refused_counters("Insufficient privilege, see ERR_NVGPUCTRPERM") == COUNTERS_REMEDY
    assert refused_counters("No space left on device") == ""


def test_the_drivers_parameters_are_read(tmp_path: object) -> None:
    from pathlib import Path

    file = Path(str(tmp_path)) / "params"
    assert permissions._restricted(file) is None
    for number, restricted in (("0", False), ("1", True)):
        file.write_text(f"ResmanDebugLevel: 4294967295\nRmProfilingAdminOnly: {number}\nTCEBypassMode: 0\n")
        assert permissions._restricted(file) is restricted


@pytest.mark.skipif(not permissions.PARANOID.exists(), reason="the kernel has no perf events")
def test_a_counter_is_really_tried() -> None:
    """As root it opens; with no rights at all it opens where the kernel's level allows it."""
    level = permissions._paranoid()
    assert level is not None
    found = permissions._try_counter()
    if permissions._capabilities() >> SYS_ADMIN & 1 and not permissions._in_container():
        assert found is None
    if os.geteuid() == 0 and shutil.which("setpriv"):
        code = "from aisp_trace.capture import permissions as p; print(p._try_counter())"
        words = ["setpriv", "--reuid=65534", "--clear-groups", "--inh-caps=-all", sys.executable, "-P", "-c", code]
        done = subprocess.run(words, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
        if done.returncode == 0:  # where that user may read the package
            assert (done.stdout.strip() == "None") == (level <= permissions.MOST_PARANOID and found is None)


@pytest.mark.parametrize(
    ("environment", "job"),
    [
        ({"RANK": "3", "WORLD_SIZE": "8"}, (3, 8)),
        ({"RANK": "0", "WORLD_SIZE": "1"}, None),
        ({"RANK": "0"}, None),
        ({"SLURM_PROCID": "5", "SLURM_NTASKS": "16"}, (5, 16)),
        ({"OMPI_COMM_WORLD_RANK": "1", "OMPI_COMM_WORLD_SIZE": "2"}, (1, 2)),
        ({"PMI_RANK": "x", "PMI_SIZE": "2"}, None),
        ({}, None),
    ],
)
def test_a_rank_is_known_by_who_started_it(environment: dict[str, str], job: tuple[int, int] | None) -> None:
    assert rank_here(environment) == job

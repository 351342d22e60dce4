"""The workloads that come with the project, as plain facts. Imports no torch, so that listing them costs nothing.

Adding a workload is one program file in this folder and one `Entry` here; a test holds the two together.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from ..kernels.tasks import NAMES as TASKS
from ..traces.errors import UsageError
from ..traces.faults import nearest

SIZES: Final = ("tiny", "default", "large")
"""tiny: continuous integration, under a second; default: what claims are made for; large: the same shape, longer."""

DEVICES: Final = ("cpu", "cuda")

NEEDS: Final[Mapping[str, int]] = {"cuda": 1, "2 gpus": 2}
"""What a single variant may need beside what its workload needs, and how many GPUs that takes."""

HEAP_WARMUP: Final = 5
"""Iterations until a variant that makes its host tensors anew finds room for them in freed memory: the old ones live until
the new ones are complete, and holes are filled by and by. Of 32 outputs of 16 MiB the first two iterations fault in all
pages (131,072 each), the next three up to a quarter, later ones few or none (Linux, glibc 2.36, memory kept)."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What is known of a workload without running it.

    `variants` are (name, description) in order: "baseline" first, then the rungs, each adding one change to the one
    before, up to "optimized", which all claims of the pair are made for. What follows it are alternatives: one change
    each to the variant that `changes` names. `variant_needs` maps variants that cannot run wherever the workload can to
    one of `NEEDS`. `needs` and `proves` are for people. `process_per_variant` says that variants must not share a
    process (allocator cases: the first would leave its pool to the second). `gpus` is how many GPUs a run on "cuda" takes.
    `kernels` maps variants that run a generated kernel to its task, which the guard has to let through. A workload with `tasks`
    is one workload for each of them, called ``name.task`` wherever a run is named; then `kernels` does not say which.
    """

    name: str
    title: str
    variants: tuple[tuple[str, str], ...]
    needs: str
    proves: str
    devices: tuple[str, ...] = DEVICES
    sizes: tuple[str, ...] = SIZES
    default_iterations: int = 10
    default_warmup: int = 3
    process_per_variant: bool = False
    variant_needs: Mapping[str, str] = field(default_factory=dict)
    changes: Mapping[str, str] = field(default_factory=dict)
    gpus: int = 1
    kernels: Mapping[str, str] = field(default_factory=dict)
    tasks: tuple[str, ...] = ()

    @property
    def module(self) -> str:
        """The program, for ``python -P -m``."""
        return f"{__package__}.{self.name.partition('.')[0]}"

    def of_task(self, task: str | None = None) -> Entry:
        """The workload that `task` makes of this one; raises `UsageError` if there is none such, or none was named."""
        if not self.tasks and task is not None:
            raise UsageError(f"--task was given with {self.name}, which has no tasks; leave it out")
        if task is None and self.tasks:
            raise UsageError(f"{self.name} needs a task; add --task with one of {', '.join(self.tasks)}")
        if task is None:
            return self
        if task not in self.tasks:
            has = f"it has {', '.join(self.tasks)}"
            raise UsageError(f"{self.name} has no task {task!r}{nearest(task, self.tasks, has)}")
        kernels = dict.fromkeys(self.kernels, task)
        return replace(self, name=f"{self.name}.{task}", kernels=kernels, tasks=())

    @property
    def variant_names(self) -> tuple[str, ...]:
        """The variants' names, in order."""
        return tuple(name for name, _ in self.variants)

    def unmet(self, device: str, gpus: int) -> str:
        """Why this cannot run on `device` of a machine with `gpus` GPUs; empty if it can."""
        if device not in self.devices:
            return f"it cannot run on {device}; it runs on {', '.join(self.devices)}"
        if device == "cuda" and gpus < self.gpus:
            return f"it needs {self.gpus} GPU{'s' if self.gpus > 1 else ''} and {gpus or 'none'} can be used"
        return ""

    def lacks(self, variant: str, gpus: int) -> str:
        """What `variant` needs and a run that may use `gpus` GPUs (0: on the CPU) does not have; empty if nothing."""
        need = self.variant_needs.get(variant)
        return need if need is not None and gpus < NEEDS[need] else ""


CATALOG: Final[tuple[Entry, ...]] = (
    Entry(
        name="pipeline_sequential",
        title="many microbatches through h2d, compute and d2h",
        variants=(
            ("baseline", "one microbatch at a time through pageable memory, every copy waited for"),
            ("optimized", "pinned memory, double buffers, one stream (on a CPU: one thread) per stage"),
            ("cuda_graph", "optimized, captured once as a CUDA graph and replayed by one call"),
        ),
        needs="any machine; real copies need a CUDA GPU",
        proves="copies of one microbatch hide under the compute of another, so that time falls to the longest stage",
        variant_needs={"cuda_graph": "cuda"},
        changes={"cuda_graph": "optimized"},
        default_warmup=HEAP_WARMUP,
    ),
    Entry(
        name="end_to_end_bandwidth",
        title="small requests that start and end in host memory",
        variants=(
            ("baseline", "one request at a time through pageable memory, every answer waited for"),
            ("pinned", "baseline with requests and answers in page-locked memory, so that nothing waits"),
            ("batched", "pinned, with 32 requests copied and computed as one"),
            ("optimized", "batched, with one stream (on a CPU: one thread) per stage and double buffers"),
        ),
        needs="any machine; a real link needs a CUDA GPU",
        proves="large page-locked copies run at the link's speed, and in both directions at once they hide under compute",
    ),
    Entry(
        name="integrated_kv_cache",
        title="token-by-token decoding over a key-value cache",
        variants=(
            ("baseline", "the cache grows by concatenation with every token"),
            ("preallocated", "baseline with tokens written into a slab of the final length"),
            ("optimized", "preallocated, with a step captured as a CUDA graph (on a CPU: the same step, run as it is)"),
            ("paged", "preallocated, but in pages behind a block table, gathered before attention"),
            ("pooled", "preallocated, but the oldest tokens stay in pinned host memory and are prefetched"),
            ("pooled_peer", "pooled, in another GPU's memory instead of the host's"),
        ),
        needs="any machine; pooled_peer needs two GPUs",
        proves="decoding is faster if the cache is not copied and steps are not launched kernel by kernel",
        variant_needs={"pooled_peer": "2 gpus"},
        changes={"paged": "preallocated", "pooled": "preallocated", "pooled_peer": "pooled"},
    ),
    Entry(
        name="multiple_unoptimized",
        title="five bottlenecks stacked in one inference loop, removed one at a time",
        variants=(
            ("baseline", "pageable copies, .item() in every layer, a formula for GELU, temporaries, fp32"),
            ("pinned", "baseline with page-locked host memory and copies that do not wait"),
            ("no_sync", "pinned, with the statistics of all layers fetched once"),
            ("fused", "no_sync with the activation as one kernel"),
            ("in_place", "fused with bias, product and residual sum in reused buffers"),
            ("optimized", "in_place with matrix products and hidden activations in bf16"),
            ("generated", "fused with bias and activation as one generated kernel (bias_gelu)"),
        ),
        needs="any machine; the prices are a CUDA GPU's; generated needs nvcc and a verified kernel",
        proves="a ladder of rungs, each with one bottleneck less, shows what each of them cost",
        default_warmup=HEAP_WARMUP,
        variant_needs={"generated": "cuda"},
        changes={"generated": "fused"},
        kernels={"generated": "bias_gelu"},
    ),
    Entry(
        name="memory_standard",
        title="pointwise work for requests of many lengths",
        variants=(
            ("baseline", "a chain of operations through fresh temporaries; the cache is emptied after each request"),
            ("keep_cache", "the cache is kept, so that the framework's allocator serves later requests from it"),
            ("reuse", "temporaries are views of one workspace, allocated once"),
            ("optimized", "one kernel of ours without temporaries (on a CPU: the chain in cache-sized blocks)"),
            ("expandable", "keep_cache with expandable segments: less memory reserved for the same requests"),
        ),
        needs="any machine; the allocator and memory counters are those of a CUDA GPU, whose last rung needs nvcc",
        proves="kept memory costs no allocator calls, and a fused kernel's time falls with its bytes",
        process_per_variant=True,
        variant_needs={"expandable": "cuda"},
        changes={"expandable": "keep_cache"},
    ),
    Entry(
        name="training_single",
        title="a few steps of training a small language model",
        variants=(
            ("baseline", "fp32, eager, AdamW by default, every batch loaded and copied before its step"),
            ("bf16", "forward and loss under bf16 autocast"),
            ("fused_adamw", "the optimizer's step in one kernel"),
            ("optimized", "a worker thread loads and copies the next batch during a step"),
            ("compiled", "optimized with the model through torch.compile"),
        ),
        needs="any machine; bf16 pays on a CUDA GPU; the compiled rung needs triton and a C compiler",
        proves="losses agree while precision, optimizer and loader change, and how much each change takes off a step",
        variant_needs={"compiled": "cuda"},
        changes={"compiled": "optimized"},
    ),
    Entry(
        name="ddp_overlap",
        title="two ranks train one model, and sum their gradients after backward or during it",
        variants=(
            ("baseline", "after backward, one all-reduce for every parameter"),
            ("bucketed", "after backward, one all-reduce for every bucket of gradients"),
            ("optimized", "bucketed, each bucket's all-reduce begun as soon as backward has filled it"),
        ),
        needs="two CUDA GPUs and NCCL, or two processes on the CPU and gloo",
        proves="communication hides under backward, once few large collectives have taken the place of many small ones",
        gpus=2,
    ),
    Entry(
        name="generated_kernel",
        title="one task of `aisp-trace kernels`, in PyTorch and as the kernel that was verified",
        variants=(
            ("baseline", "what one writes in PyTorch, run eagerly"),
            ("optimized", "the newest verified kernel of the task, let through by the guard"),
        ),
        needs="--task NAME; a CUDA GPU, nvcc and a verified kernel; the baseline alone runs anywhere",
        proves="a generated kernel is right where it is used, and what it saves there",
        variant_needs={"optimized": "cuda"},
        kernels={"optimized": ""},
        tasks=TASKS,
    ),
)


def names() -> list[str]:
    """What runs of ours may be called: workloads, and those with tasks by each of them."""
    return [name for entry in CATALOG for name in ([f"{entry.name}.{t}" for t in entry.tasks] or [entry.name])]


def known(workload: str) -> Entry | None:
    """The workload that a run is called after, with its task if it has one; null if it is none of ours."""
    name, _, task = workload.partition(".")
    entry = next((entry for entry in CATALOG if entry.name == name), None)
    return None if entry is None or workload not in names() else entry.of_task(task or None)


def find(name: str) -> Entry:
    """The entry called `name`; raises `UsageError` naming the closest one that exists."""
    for entry in CATALOG:
        if entry.name == name:
            return entry
    names = [entry.name for entry in CATALOG]
    shown = f"`aisp-trace list` shows all {len(names)}"
    raise UsageError(f"no workload is called {name!r}{nearest(name, names, shown)}")


def devices_here(entry: Entry, gpus: int) -> list[str]:
    """The devices that `entry` can run on, on a machine with `gpus` GPUs."""
    return [device for device in entry.devices if not entry.unmet(device, gpus)]

"""The contracts as the code has them today, read off parsers, dataclasses, signatures and real outputs.

This is the one place that knows where they live: after code has moved, correct the imports here and nothing else.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import inspect
import io
import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
import types
import typing
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from aisp_trace.analyze.ranks.gather import partials_of
from aisp_trace.analyze.ranks.look import Look
from aisp_trace.analyze.result import CAUSES, IDLE, OPENED_BY
from aisp_trace.capture.doctor import Diagnosis, Finding
from aisp_trace.capture.plan import SCHEMA as PLAN
from aisp_trace.capture.plan import Plan
from aisp_trace.cli import main as cli
from aisp_trace.cli.app import COMMON, WithForeignCommand, common_options
from aisp_trace.expectations.claims.parse import schema as expectations_schema
from aisp_trace.expectations.judging.verdict import STATUSES, Verdict, exit_code
from aisp_trace.expectations.metrics.registry import METRICS
from aisp_trace.expectations.model import SOURCE_KINDS, Source
from aisp_trace.kernels import artifacts
from aisp_trace.kernels.bench.result import Bench, Limit, Measurement
from aisp_trace.kernels.llm.result import Attempt
from aisp_trace.kernels.llm.session import Session
from aisp_trace.kernels.verify.result import Check, KernelRow, Reason, Timing, Verification, WorstCase
from aisp_trace.tests.builders.commands import Action, actions
from aisp_trace.tests.builders.nsys_export import NsysExport
from aisp_trace.traces import bundle, calibration, errors, run
from aisp_trace.traces.model import KINDS, MEMORY_KINDS, STAGE_KINDS
from aisp_trace.workloads import catalog, interface, runner

from .rules import REQUIRED, Snapshot

ROOT: Final = Path(__file__).resolve().parents[2]
SAMPLES: Final = ROOT / "traces" / "samples"

OPEN: Final = frozenset(
    {
        "by_kind",
        "overlap",
        "trust",
        "variant_needs",
        "changes",
        "made_with",
        "max_ms",
        "min_items_per_s",
        "tables",
        "folders",
    }
    | {"columns", "capture", "anomalies", "parameters", "kernels", "files", "settings", "times_ns", "shares"}
)
"""Objects whose own keys are words of the data (kinds, metrics, variants, packages, tables), not of the document."""


def everything() -> dict[str, Snapshot]:
    """Every snapshot by its name."""
    return {
        "commands": commands(),
        "answers": answers(),
        "documents": documents(),
        "workload_files": workload_files(),
        "tables": tables(),
        "words": words(),
        "exit_codes": exit_codes(),
    }


# --- (a) commands and their options


def commands() -> Snapshot:
    """Each command's arguments and options: type, whether it repeats, default or required."""
    found = {"aisp-trace COMMAND": dict(_common())}
    for action in actions():
        found[f"aisp-trace {action}"] = dict(_parameters(action))
        if isinstance(action.parser, WithForeignCommand):
            found[f"aisp-trace {action}"]["-- COMMAND..."] = "text, repeats, default none"
    return found


def _common() -> Iterator[tuple[str, str]]:
    """The options of every command, which may also stand before it."""
    for parameter in common_options():
        kind = "switch" if parameter.is_flag else "text"
        yield "/".join(sorted(parameter.opts)), f"{kind}, default {str(parameter.default).lower()}"


def _parameters(action: Action) -> Iterator[tuple[str, str]]:
    hints = typing.get_type_hints(action.function)
    for place, parameter in enumerate(action.parser.params):
        if parameter.name == "help" or parameter.name in COMMON:
            continue
        option = any(word.startswith("-") for word in parameter.opts)
        names = "/".join([*sorted(parameter.opts), *parameter.secondary_opts]) if option else f"argument {place}"
        facts = [_word(hints[parameter.name])]
        facts += ["repeats"] if parameter.multiple or parameter.nargs != 1 else []
        default = "none" if parameter.default is None else str(parameter.default)
        yield names, ", ".join(facts) + (REQUIRED if parameter.required else f", default {default}")


def _word(hint: Any) -> str:
    """An option's type as a user knows it."""
    inner = [a for a in typing.get_args(hint) if a is not type(None)]
    if inner:
        return _word(inner[0])
    return {bool: "switch", int: "integer", float: "number", str: "text", Path: "path"}[hint]


# --- (b) keys of what is printed with --json


def answers() -> Snapshot:
    """Each document that is printed with ``--json``: its keys with the types that real outputs have in them."""
    found: dict[str, list[dict[str, Any]]] = {}
    for document in _printed():
        found.setdefault(document["schema"], []).append(document)
    return {schema: _union(documents) for schema, documents in sorted(found.items())}


def _printed() -> Iterator[dict[str, Any]]:
    ladder, missing = SAMPLES / "h200_pipeline_sequential", SAMPLES / "h200_end_to_end_bandwidth"
    decode, pipeline = SAMPLES / "h100_pipeline_decode.sqlite.xz", "pipeline_sequential"
    own = ROOT / "expectations"
    with tempfile.TemporaryDirectory() as scratch:
        looser = Path(scratch, "looser.json")
        held = json.loads((own / "expectations_any.json").read_text(encoding="utf-8"))
        held["claims"] = [{**held["claims"][0], "bound": {"min": 1e-9, "max": None}}]  # one changed, the others removed
        looser.write_text(json.dumps(held), encoding="utf-8")
        wrong = Path(scratch, "wrong.json")
        wrong.write_text("{}", encoding="utf-8")
        packed = Path(scratch, "packed.tar.gz")
        numbered = Path(scratch, "numbered.sqlite")
        export = (
            NsysExport().range(0, 40, "step 1").range(50, 90, "step 2").call(5, 8, "cudaLaunchKernel", correlationId=1)
        )
        export.kernel(10, 20, correlationId=1).write(numbered)
        for words in (
            ("list",),
            ("analyze", numbered),
            ("analyze", ladder),
            ("analyze", SAMPLES / "h200x2_ddp.sqlite.xz"),
            ("analyze", SAMPLES / "h200x2_ddp.sqlite.xz", "--window", "all"),
            ("analyze", SAMPLES / "h200x2_handoff.sqlite.xz"),
            ("analyze", SAMPLES / "cpu_threads_nsys2022.sqlite.xz"),
            ("analyze", SAMPLES / "h100_pipeline_decode_gpu_metrics_trimmed.sqlite.xz", "--window", "decode/baseline"),
            ("analyze", decode, "--window", "8s:8.25s", "--range", "decode", "--depth", 2, "--stages", "decode"),
            ("compare", ladder),
            ("ranks", SAMPLES / "h200x2_ddp.sqlite.xz", wrong, "--partial", Path(scratch, "ranks"), "--workers", 1),
            ("predict", f"{ladder}:baseline", "--change", "syncs", "--change", "allocator"),
            ("compare", SAMPLES / "h200_memory_standard"),
            ("compare", _drifting(ladder, Path(scratch, "drifting"))),
            ("compare", f"{ladder}:baseline", f"{missing}:optimized"),
            ("compare", decode, "--window", f"{pipeline}/baseline", "--against", f"{pipeline}/optimized"),
            ("check", ladder, "--expectations", own),
            ("check", missing, "--expectations", own),
            ("expectations", "show", "--expectations", own),
            ("expectations", "validate", own, wrong),
            ("expectations", "diff", own / "expectations_any.json", looser),
            ("bundle", SAMPLES / "h200_memory_standard", "-o", packed, "--expectations", own),
            ("bundle", "verify", packed),
        ):
            yield _json_of(*map(str, words), "--json")
    finding = Finding("nsys", "missing", "no nsys on PATH", "install it")
    yield Diagnosis([finding], "torch", "cpu").document()  # the command itself would record, which takes seconds
    yield Diagnosis([finding], None, "cpu").document()
    yield from _verifications()
    yield from _benches()


def _verifications() -> Iterator[dict[str, Any]]:
    """A verdict on a kernel with everything there is, and one with as little as there may be; the command needs a GPU for it."""
    worst = WorstCase("out", "rows=1,columns=1", "random", "aligned", 1e-3, 1e-2, 1e-3, 1e-2, (0, 0), 1.0, 1.0)
    timing = Timing("rows=1,columns=1", 20, 1e5, 1e5, 1e5, 1e5, 1e5, 1.0, 8, 1e4, 0.5)
    untraced = Timing("rows=1,columns=1", 20, None, None, None, None, None, None, 8, None, None)
    candidate = {"file": "a.cu", "sha256": "0", "language": "CUDA", "own_kernels": ["_Z1av"]}
    made_with = dict.fromkeys(("aisp-trace", "python", "torch", "created_utc", "gpu", "cuda", "nsys", "nvcc"), "1")
    yield Verification(
        status="refused",
        why="an output is wrong",
        reasons=[Reason("wrong", "out is wrong", 2)],
        candidate=candidate,
        task="rmsnorm",
        dtype="float32",
        device="NVIDIA H200",
        worst=worst,
        timings=[timing, untraced],
        kernels=[KernelRow("a", 20, 1, "PyTorch", True), KernelRow("b", 20, 1, None, None)],
        checks=[Check("the trace", True, "seen")],
        calls=20,
        compared=20,
        peak={"bytes_per_s": 1e12, "source": "a copy", "cache_bytes": 1},
        made_with=made_with,
        notes=["a note"],
    ).document()
    vague = dataclasses.replace(worst, norm=None, worst=None, found=math.nan)
    less = {**candidate, "own_kernels": None}
    yield Verification(
        "cannot tell", "no GPU", [], less, "rmsnorm", "float32", "cpu", vague, [], [], [], 0, 0, None, {}, []
    ).document()
    yield Verification(
        "cannot tell", "no GPU", [], less, "rmsnorm", "float32", "cpu", None, [], [], [], 0, 0, None, {}, []
    ).document()


def _benches() -> Iterator[dict[str, Any]]:
    """A bench with everything there is, and one of which little is known."""
    kernel = {"file": "a.cu", "sha256": "0", "language": "CUDA", "parameters": {"threads": 256, "keep": "none"}}
    limits = {"bytes_per_s": 1e12, "bytes_source": "a copy", "flops_per_s": 1e12, "flops_source": "clock"}
    full = Measurement("kernel", "count=1", 30, 1e5, 1e5, 1e5, 1e5, 1e5, 1.0, 0.5, "trace", 0.1, 100, 0.5, 10)
    limit = Limit("count=1", 12, 2, "memory", 1.5)
    made_with = dict.fromkeys(("aisp-trace", "python", "torch", "created_utc", "gpu", "cuda", "nsys"), "1")
    known = Bench("saxpy", "float32", "NVIDIA H200", kernel, "verified", limits, [limit], [full], ["a note"], made_with)
    yield known.document()
    less = {**kernel, "parameters": None}
    lost = [Measurement("eager", "count=1", problem="its process ended")]
    vague = {**limits, "flops_per_s": None}
    yield dataclasses.replace(known, kernel=less, limits=vague, measurements=lost).document()
    yield dataclasses.replace(known, limits=None, shapes=[], measurements=[], notes=[]).document()


def _drifting(source: Path, target: Path) -> Path:
    """A copy of the run `source` in which one side becomes slower from round to round, so that there are concerns."""
    shutil.copytree(source, target)
    manifest = json.loads((target / "manifest.json").read_text(encoding="utf-8"))
    for factor, one in enumerate(manifest["rounds"], 1):
        times = next(v for v in one["result"]["variants"] if v["name"] == "optimized")
        times["iterations_ns"] = [factor * ns for ns in times["iterations_ns"]]
    (target / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    return target


def _json_of(*words: str) -> dict[str, Any]:
    printed = io.StringIO()
    kept = os.environ.pop("GITHUB_STEP_SUMMARY", None)  # `check` would append to it
    try:
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(io.StringIO()):
            cli.main(list(words))
    finally:
        if kept is not None:
            os.environ["GITHUB_STEP_SUMMARY"] = kept
    document: dict[str, Any] = json.loads(printed.getvalue())
    if document["schema"].startswith("aisp-trace/expectations-list/"):
        for file in document["files"]:
            file["claims"] = []  # as they stand in their files, whose schema is another
    return document


def _union(documents: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """The keys of all `documents` of one kind, each with every type it has in any of them."""
    kinds: dict[str, set[str]] = {}
    for document in documents:
        for path, kind in _keys(document):
            kinds.setdefault(path, set()).add(kind)
    for found in kinds.values():
        if "number" in found:
            found.discard("integer")  # a number that happens to be whole
    return {path: " | ".join(sorted(found)) for path, found in sorted(kinds.items())}


def _keys(value: Any, path: str = "", is_open: bool = False) -> Iterator[tuple[str, str]]:
    """(path, type) of every key below `value`; ``[]`` stands for the items of a list, ``*`` for keys of an open object."""
    if isinstance(value, dict):
        for key, inner in value.items():
            below = f"{path}.{'*' if is_open else key}".lstrip(".")
            yield below, _kind(inner)
            yield from _keys(inner, below, key in OPEN and not is_open)
    elif isinstance(value, list):
        for inner in value:
            if not isinstance(inner, dict):
                yield f"{path}[]", _kind(inner)
            yield from _keys(inner, f"{path}[]")


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    names = {bool: "true or false", int: "integer", float: "number", str: "text", list: "list", dict: "object"}
    return names[type(value)]


# --- (d) documents that are written and read again


def documents() -> Snapshot:
    """Each document kept in a file: its keys, and whether one without them is refused."""
    read = {
        run.SCHEMA: run.Manifest,
        runner.SCHEMA: run.ProcessResult,
        PLAN: Plan,
        calibration.SCHEMA: calibration.Calibration,
        calibration.RESULT_SCHEMA: calibration.Measured,
        bundle.SCHEMA: bundle.Index,
    }
    found = {schema: dict(_fields(cls, {c: s for s, c in read.items()})) for schema, cls in read.items()}
    expectations = expectations_schema()
    for schema in expectations["properties"]["schema"]["enum"]:
        found[schema] = dict(_properties(expectations, expectations["$defs"]))
    wanted = json.loads((ROOT / "expectations" / "wanted_claims.json").read_text(encoding="utf-8"))
    side, lines = _said_by_a_program()
    for documents in ([wanted], [side], list(_descriptions()), [_provenance()], [_session()], [_partial()]):
        found[documents[0]["schema"]] = _union(documents)
    found["answer.jsonl"] = _union(lines)
    return {schema: dict(sorted(found[schema].items())) for schema in sorted(found)}


def _partial() -> dict[str, Any]:
    """What the partial of a rank says of itself."""
    file = SAMPLES / "h200x2_ddp.sqlite.xz"
    (_, content), _ = partials_of(str(file), Look())
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        document: dict[str, Any] = json.loads(archive.read("partial.json"))
        return document


def _provenance() -> dict[str, Any]:
    """What stands beside a kernel that was emitted."""
    with tempfile.TemporaryDirectory() as scratch:
        source = Path(scratch, "a.cu")
        source.write_text("", encoding="utf-8")
        kept = artifacts.store_emitted(Path(scratch), "rmsnorm", source, "sm_90", "nvcc 13.0", "")
        document: dict[str, Any] = json.loads((kept / artifacts.PROVENANCE).read_text(encoding="utf-8"))
        return document


def _session() -> dict[str, Any]:
    """Where a conversation with a model stands."""
    with tempfile.TemporaryDirectory() as scratch:
        made = Session(Path(scratch), "rmsnorm", "float32", "sm_90", ["rows=1,columns=1"], {"threads": 256}, "model")
        told, times, shares = ["words"], {"rows=1,columns=1": 1.0, "b": None}, {"rows=1,columns=1": 1.0, "b": None}
        made.attempts.append(Attempt(1, "verified", exchanges=["a"], told=told, times_ns=times, shares=shares))
        made.save()
        document: dict[str, Any] = json.loads((made.folder / "session.json").read_text(encoding="utf-8"))
        return document


def _fields(cls: type[Any], documents: Mapping[type[Any], str], path: str = "") -> Iterator[tuple[str, str]]:
    """Keys of the document that `run.from_json` makes a `cls` of; one of the `documents` inside is named, not repeated."""
    hints = typing.get_type_hints(cls)
    for field in dataclasses.fields(cls):
        key = f"{path}{field.name}"
        inner, mark = _inner(hints[field.name])
        optional = field.metadata.get("added")
        document = None if inner is None else documents.get(inner)
        whole = "" if document is None else f" of {document}"
        yield key, _hint(hints[field.name]) + whole + ("" if optional else REQUIRED)
        if inner is not None and document is None:
            yield from _fields(inner, documents, f"{key}{mark}.")


def _inner(hint: Any) -> tuple[type[Any] | None, str]:
    """The dataclass in `hint`, if there is one, and how it is reached."""
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return hint, ""
    inner = [a for a in typing.get_args(hint) if dataclasses.is_dataclass(a) and isinstance(a, type)]
    repeats = not isinstance(hint, types.UnionType) and typing.get_origin(hint) is not typing.Union
    return (inner[0] if inner else None), "[]" if repeats else ""


def _hint(hint: Any) -> str:
    if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union:
        return " | ".join(sorted(_hint(a) for a in typing.get_args(hint)))
    origin = typing.get_origin(hint) or hint
    if isinstance(origin, type) and (dataclasses.is_dataclass(origin) or issubclass(origin, Mapping)):
        return "object"
    if isinstance(origin, type) and origin is not str and issubclass(origin, Sequence):
        return "list"
    names = {str: "text", int: "integer", float: "number", bool: "true or false", type(None): "null", Any: "anything"}
    return names[origin]


def _properties(schema: Mapping[str, Any], defs: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, str]]:
    """Keys of a JSON Schema, through its references; where a claim is one of several kinds, those of each."""
    schema = _resolved(schema, defs)
    for key, inner in schema.get("properties", {}).items():
        resolved = _resolved(inner, defs)
        below = f"{path}{key}"
        if path or key != "type":
            yield below, _schema_kind(inner, defs) + (REQUIRED if key in schema.get("required", ()) else "")
        yield from _properties(resolved, defs, f"{below}.")
        if "items" in resolved:
            claim = _resolved(resolved["items"], defs)
            for kind, name in (("time", "TimeClaim"), ("mechanism", "MechanismClaim")) if key == "claims" else ():
                yield from _properties(defs[name], defs, f"{below}[{kind}].")
            if key != "claims":
                yield f"{below}[]", _schema_kind(claim, defs)


def _resolved(schema: Mapping[str, Any], defs: Mapping[str, Any]) -> Mapping[str, Any]:
    """`schema` without references and without the choice of null."""
    for _ in range(4):
        if "$ref" in schema:
            schema = defs[schema["$ref"].rpartition("/")[2]]
        elif "anyOf" in schema and "type" not in schema:
            schema = next(s for s in schema["anyOf"] if s.get("type") != "null")
        elif "allOf" in schema and "type" not in schema:
            schema = {
                **schema["allOf"][0],
                **{k: v for k, v in schema.items() if k not in ("allOf", "properties", "required")},
            }
    return schema


def _schema_kind(schema: Mapping[str, Any], defs: Mapping[str, Any]) -> str:
    nullable = any(s.get("type") == "null" for s in schema.get("anyOf", ()))
    resolved = _resolved(schema, defs)
    kind = resolved.get("type") or ("text" if "const" in resolved or "enum" in resolved else "anything")
    names = {"string": "text", "array": "list", "boolean": "true or false"}
    return " | ".join([*(["null"] if nullable else []), names.get(kind, kind)])


def _descriptions() -> Iterator[dict[str, Any]]:
    """``export.json`` of a trace, and of a run with several."""
    with tempfile.TemporaryDirectory() as scratch:
        for sample in ("h200x2_handoff.sqlite.xz", "h200_end_to_end_bandwidth"):
            target = Path(scratch, sample)
            with contextlib.redirect_stdout(io.StringIO()):
                assert cli.main(["export", str(SAMPLES / sample), "--to", "csv", "-o", str(target)]) == 0
            for file in sorted(target.rglob("export.json")):
                yield json.loads(file.read_text(encoding="utf-8"))


_PROGRAM: Final = """
from aisp_trace.capture.answer import state_work
from aisp_trace.capture.stages import iteration, measured, stage
with measured(), iteration(), stage("load", kind="h2d", nbytes=8), stage("plain"):
    pass
state_work(8, "tokens", "digest")
state_work(8, "tokens")
"""


def _said_by_a_program() -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The torch recorder's side file, and the lines of the answer file, of one small program."""
    with tempfile.TemporaryDirectory() as scratch:
        lines = Path(scratch, "answer.jsonl")
        variables = {"AISP_TRACE_RECORDER": "torch", "AISP_TRACE_OUTPUT": scratch, "AISP_TRACE_ANSWER": str(lines)}
        program = [sys.executable, "-P", "-c", _PROGRAM]
        subprocess.run(program, env={**os.environ, **variables}, check=True, capture_output=True)
        side: dict[str, Any] = json.loads(Path(scratch, "stages.json").read_text(encoding="utf-8"))
        return side, [json.loads(line) for line in lines.read_text(encoding="utf-8").splitlines()]


# --- (e) the interface of workload files

INTERFACE: Final = (
    ("aisp_trace.workloads.catalog", ("Entry",)),
    ("aisp_trace.workloads.interface", ("Tolerance", "Problem", "Variant", "Program")),
    ("aisp_trace.workloads.runner", ("main",)),
    ("aisp_trace.traces.run", ("Work",)),
    ("aisp_trace.capture.stages", ("stage", "iteration", "measured")),
    ("aisp_trace.capture.answer", ("state_work",)),
)
"""Where users import from, and what."""


def workload_files() -> Snapshot:
    """Signatures of everything a workload file imports, and the command line it understands when `capture` starts it."""
    found = {}
    for module, names in INTERFACE:
        for name in names:
            thing = getattr(importlib.import_module(module), name)
            found[f"{module}.{name}"] = dict(_signature(thing) if inspect.isfunction(thing) else _class(thing))
    entry = catalog.Entry("probe", "probe", (("baseline", ""),), "", "")
    program: interface.Program[Any] = interface.Program(entry, lambda *_: None, {"baseline": lambda _: None})  # type: ignore
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
        runner.run(program, ["--help"])
    words = printed.getvalue().replace("[", " ").replace("]", " ").split()
    found["python WORKLOAD.py"] = dict.fromkeys(sorted({w.rstrip(",") for w in words if w.startswith("--")}), "option")
    return found


def _signature(function: Callable[..., Any], name: str = "") -> Iterator[tuple[str, str]]:
    """Each parameter with its position, annotation and default, and what is returned."""
    signature = inspect.signature(function)
    own = [parameter for parameter in signature.parameters.values() if parameter.name != "self"]
    for place, parameter in enumerate(own):
        absent = parameter.default is inspect.Parameter.empty
        default = REQUIRED if absent else f", default {parameter.default}"
        yield f"{name}({parameter.name})", f"{place}: {_text(parameter.annotation)}{default}"
    yield f"{name}()", f"gives {_text(signature.return_annotation)}"


def _class(cls: type[Any]) -> Iterator[tuple[str, str]]:
    """Constructor of a dataclass, else annotated attributes; and the public methods, and those a subclass must write."""
    if dataclasses.is_dataclass(cls):
        yield from ((entry, fact) for entry, fact in _signature(cls) if entry != "()")
    else:
        yield from ((f".{name}", _text(hint)) for name, hint in vars(cls).get("__annotations__", {}).items())
    for name, member in vars(cls).items():
        if name.startswith("_") or not (inspect.isfunction(member) or isinstance(member, property)):
            continue
        abstract = REQUIRED if getattr(member, "__isabstractmethod__", False) else ""
        if isinstance(member, property):
            yield f".{name}", f"property, {_text(inspect.signature(typing.cast(Any, member.fget)).return_annotation)}"
            continue
        yield f".{name}", f"method{abstract}"
        yield from _signature(member, f".{name}")


def _text(hint: Any) -> str:
    return "anything" if hint is inspect.Parameter.empty else str(hint)


# --- (f) exported tables


def tables() -> Snapshot:
    """Each table of ``export --to csv|parquet``: its columns with their types."""
    with tempfile.TemporaryDirectory() as scratch:
        target, sample = Path(scratch, "out"), SAMPLES / "h200x2_handoff.sqlite.xz"
        with contextlib.redirect_stdout(io.StringIO()):
            assert cli.main(["export", str(sample), "--to", "parquet", "-o", str(target)]) == 0
        described = json.loads((target / "export.json").read_text(encoding="utf-8"))["tables"]
        return {name: dict(facts["columns"]) for name, facts in described.items()}


# --- words that stand as values in answers, documents and tables


def words() -> Snapshot:
    """The values of columns that hold one word of a list, and the metrics that claims may name."""
    lists = {
        "category": (*KINDS, IDLE),
        "cause": CAUSES,
        "opened_by": OPENED_BY,
        "memory kind": MEMORY_KINDS,
        "stage kind": STAGE_KINDS,
        "verdict": STATUSES,
        "source of a bound": SOURCE_KINDS,
    }
    found = {name: dict.fromkeys(known, "word") for name, known in lists.items()}
    return {**found, "metric of a claim": {name: f"in {metric.unit}" for name, metric in METRICS.items()}}


# --- (c) exit codes


def exit_codes() -> Snapshot:
    """What a process leaves with: for each kind of error, for each verdict alone and for pairs of them."""
    raised = {n: e for n, e in vars(errors).items() if isinstance(e, type) and issubclass(e, errors.AispTraceError)}
    other = {"a bug": cli.BUG, "interrupted": cli.INTERRUPTED, "the reader of a pipe left": cli.PIPE_CLOSED}
    pairs = [(a, b) for i, a in enumerate(STATUSES) for b in STATUSES[i + 1 :]]
    return {
        "errors": {name: str(error.exit_code) for name, error in sorted(raised.items())},
        "process": {name: str(code) for name, code in other.items()},
        "verdicts": {" and ".join(some): str(_judged(some)) for some in [(), *((s,) for s in STATUSES), *pairs] if some}
        | {"no verdict": str(_judged(()))},
    }


def _judged(statuses: Iterable[str]) -> int:
    source = Source("definition", None, "")
    return exit_code([Verdict("c", "q", status, "", "v", "key", "key", source, "ratio") for status in statuses])

"""Cases from what commands write and others read again: runs, expectations, bundles, partials, calibrations."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import shutil
import tarfile
import zipfile
from pathlib import Path
from random import Random
from typing import Any, Final

from aisp_trace.traces.run import MANIFEST

from . import damage
from .case import Case, made
from .seeds import CALIBRATION, Seeds

RUN_LOOKS: Final = (
    ("check", "run", "--json"),
    ("check", "run", "--junit", "../out/j.xml", "--markdown", "../out/m.md"),
    ("analyze", "run", "--json"),
    ("compare", "run", "--json"),
    ("report", "run", "-o", "../out/r.html"),
    ("bundle", "run", "-o", "../out/b.tar.gz"),
    ("accept", "run", "--yes", "--expectations", "../out/own"),
    ("expectations", "new", "pipeline", "--expectations", "../out/own"),
    ("export", "run", "--to", "json", "-o", "../out/x.json"),
    ("predict", "run:baseline", "--json"),
)


def run_case(rng: Random, box: Path, seeds: Seeds) -> Case:
    """A run folder: its manifest, its files gone, doubled, links."""
    folder = made(box)
    run = folder / "run"
    shutil.copytree(seeds.run, run)
    manifest = run / MANIFEST
    how = rng.randrange(12)
    if how < 8:
        document = json.loads(manifest.read_bytes())
        if how < 3:
            document["rounds"] = document["rounds"][: rng.randrange(9)]
        manifest.write_bytes(damage.written(rng, damage.document(rng, document)))
    elif how == 8:
        manifest.write_bytes(damage.raw(rng, manifest.read_bytes()))
    elif how == 9:
        trace = run / rng.choice(("baseline", "optimized")) / "trace.sqlite"
        trace.unlink()
        if rng.random() < 0.7:
            trace.symlink_to(rng.choice((manifest, Path("nowhere"), trace, Path("/etc/passwd"))))
    elif how == 10:
        trace = run / "baseline" / "trace.sqlite"
        trace.write_bytes(damage.raw(rng, trace.read_bytes()))
    else:
        run.rename(folder / ".partial-run")
        (folder / ".partial-run").rename(folder / "run") if rng.random() < 0.5 else None
        manifest.unlink(missing_ok=True) if rng.random() < 0.5 else None
    if rng.random() < 0.6:
        shutil.copytree(seeds.folder / "expectations", folder / "expectations")
    case = Case("run")
    case.look(*rng.choice(RUN_LOOKS[:2] if rng.random() < 0.4 else RUN_LOOKS))
    return case


def expectations_case(rng: Random, box: Path, seeds: Seeds) -> Case:
    """Expectation files."""
    folder = made(box)
    own = folder / "expectations"
    shutil.copytree(seeds.folder / "expectations", own)
    file = rng.choice(sorted(own.iterdir()))
    if rng.random() < 0.85:
        file.write_bytes(damage.written(rng, damage.document(rng, json.loads(file.read_bytes()))))
    else:
        file.write_bytes(damage.raw(rng, file.read_bytes()))
    case = Case("expectations")
    case.look("expectations", "validate", "expectations", "--json")
    how = rng.randrange(8)
    if how == 0:
        shutil.copytree(seeds.run, folder / "run")
        case.look("check", "run", "--json", "--expectations", "expectations")
    elif how == 1:
        case.look("expectations", "show", "--expectations", "expectations")
    elif how == 2:
        shutil.copytree(seeds.folder / "expectations", folder / "other")
        case.look("expectations", "diff", "other", "expectations", "--json")
    elif how == 3:
        case.look("expectations", "migrate", "expectations")
    return case


def bundle_case(rng: Random, box: Path, seeds: Seeds) -> Case:
    """Bundles: bytes, headers, paths, links, members that lie; archives of another kind."""
    folder = made(box)
    file = folder / "x.bundle.tar.gz"
    assert seeds.bundle is not None
    data = seeds.bundle.read_bytes()
    how = rng.randrange(10)
    if how < 2:
        data = damage.raw(rng, data)
    elif how < 5:
        plain = gzip.decompress(data)
        if how == 4:
            plain = plain[: 512 * rng.randrange(len(plain) // 512)]
        else:
            block = 512 * rng.randrange(len(plain) // 512) if how == 3 else 0
            plain = (
                plain[:block]
                + damage.raw(rng, plain[block : block + 512])[:512].ljust(512, b"\0")
                + plain[block + 512 :]
            )
        data = gzip.compress(plain, 1)
    elif how < 9:
        data = _packed_again(rng, data)
    else:
        other = io.BytesIO()
        with zipfile.ZipFile(other, "w") as archive:
            archive.writestr("../evil", "x")
        data = other.getvalue()
    file.write_bytes(data)
    case = Case("bundle")
    case.look("bundle", "verify", file.name, "--json")
    return case


def _packed_again(rng: Random, data: bytes) -> bytes:
    """The bundle with members changed, renamed, linked; its index mostly says so."""
    members: list[tuple[str, bytes]] = []
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:gz") as archive:
        for info in archive:
            stream = archive.extractfile(info)
            members.append((info.name, b"" if stream is None else stream.read()))
    root = members[0][0].partition("/")[0]
    index: dict[str, Any] = json.loads(members[0][1])
    rest = members[1:]
    at = rng.randrange(len(rest))
    name, content = rest[at]
    evil = rng.choice(
        ("../../evil", "/tmp/evil", "a/../../evil", ".hidden", "run/baseline", "x" * 150, "run/new.txt", "a\\b", "é")
    )
    how = rng.randrange(6)
    if how < 3 and name.endswith(".json"):
        rest[at] = (name, damage.written(rng, damage.document(rng, json.loads(content))))
    elif how == 3:
        rest[at] = (f"{root}/{evil}", content)
    elif how == 4:
        del rest[at]
    else:
        rest[at] = (name, damage.raw(rng, content))
    if rng.random() < 0.85:
        index["members"] = [
            {"path": n.partition("/")[2], "nbytes": len(c), "sha256": hashlib.sha256(c).hexdigest()} for n, c in rest
        ]
    if rng.random() < 0.2:
        index = damage.document(rng, index)
    text = (json.dumps(index, indent=1) + "\n").encode()
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for n, c in [(f"{root}/index.json", text), *rest]:
            info = tarfile.TarInfo(n[:99])
            info.size, info.mode = len(c), 0o644
            if rng.random() < 0.02:
                info.type, info.linkname, info.size = rng.choice((tarfile.SYMTYPE, tarfile.LNKTYPE)), "/etc/passwd", 0
            archive.addfile(info, io.BytesIO(c))
    return gzip.compress(plain.getvalue(), 1)


def partial_case(rng: Random, box: Path, seeds: Seeds) -> Case:
    """Partials of ranks: the archive's bytes, what it says of itself, its tables."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder = made(box) / "job"
    shutil.copytree(seeds.folder / "partials", folder)
    file = rng.choice(sorted(folder.iterdir()))
    how = rng.randrange(8)
    if how < 2:
        file.write_bytes(damage.raw(rng, file.read_bytes()))
    else:
        with zipfile.ZipFile(file) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
        name = rng.choice([n for n in members if n.endswith("parquet")])
        if how < 5:
            head = json.loads(members["partial.json"])
            members["partial.json"] = damage.written(rng, damage.document(rng, head))
        elif how == 5:
            members[name] = damage.raw(rng, members[name])
        elif how == 6:
            table = pq.read_table(io.BytesIO(members[name]))
            column = rng.randrange(len(table.column_names))
            values: Any = (
                [damage.number(rng) for _ in range(table.num_rows)] if rng.random() < 0.6 else [None] * table.num_rows
            )
            if rng.random() < 0.2:
                table = table.drop_columns([table.column_names[column]])
            else:
                table = table.set_column(column, table.column_names[column], pa.array(values, pa.int64()))
            out = io.BytesIO()
            pq.write_table(table, out)
            members[name] = out.getvalue()
        else:
            members[rng.choice((name, "../evil", "partial.json"))] = b"x" * rng.choice((0, 10, 100_000))
        with zipfile.ZipFile(file, "w") as archive:
            for n, content in members.items():
                archive.writestr(n, content)
    case = Case("partial")
    case.look("ranks", "job", "--partial", "../out", *rng.choice((("--json",), (), ("-o", "../out/j.html"))))
    return case


def calibration_case(rng: Random, box: Path, seeds: Seeds) -> Case:
    """Calibrations beside a trace."""
    folder = made(box)
    (folder / "expectations").mkdir()
    changed = damage.document(rng, seeds.calibration)
    (folder / "expectations" / CALIBRATION.replace("h100", "h100_80gb_hbm3")).write_bytes(damage.written(rng, changed))
    shutil.copy(seeds.exports[rng.randrange(4)], folder / "trace.sqlite")
    case = Case("calibration")
    case.look("analyze", "trace.sqlite", "--json", "--no-cache")
    return case

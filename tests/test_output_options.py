"""Every option of every command that names something to write follows the one rule of `traces.output`.

A new option with a path has to be listed here, as read or as written; one that is written then has to pass.
"""

from __future__ import annotations

import ast
import importlib
import os
import shutil
import subprocess
import sys
import typing
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from aisp_trace.cli.main import main
from aisp_trace.cli.options import FORCE
from aisp_trace.tests.builders.commands import actions
from aisp_trace.tests.builders.nsys_export import NsysExport
from aisp_trace.tests.judging.build import run_folder
from aisp_trace.tests.patience import PATIENCE_S
from aisp_trace.tests.test_expectations_files import TIME, put, text

ROOT: Final = Path(__file__).resolve().parents[1]

READ: Final = {
    *(
        ("analyze", "sources"),
        ("compare", "base"),
        ("compare", "opt"),
        ("predict", "recording"),
        ("ranks", "sources"),
        ("check", "source"),
        ("check", "expectations"),
    ),
    *(
        ("report", "source"),
        ("report", "opt"),
        ("mcp", "root"),
        ("report", "expectations"),
        ("bundle", "words"),
        ("bundle", "expectations"),
        ("bundle", "sign"),
        ("bundle", "signer"),
        ("mcp", "root"),
    ),
    *(("export", "source"), ("accept", "sources"), ("capture", "workload"), ("capture", "resume_folder")),
    *(("expectations show", "expectations"), ("expectations validate", "paths")),
    *(("expectations diff", "old"), ("expectations diff", "new"), ("expectations new", "workload")),
    *(("kernels verify", "file"), ("kernels bench", "what"), ("kernels bench", "verification")),
    ("kernels emit", "result"),
}
"""Parameters that name something to read; nothing is written there, but what an unfinished run lacks (`resume_folder`)."""

CONTAINERS: Final = {
    *(("capture", "output"), ("kernels emit", "artifacts"), ("kernels verify", "artifacts")),
    *(("analyze", "partial"), ("ranks", "folder")),
}
"""Options that name a folder in which something new is made under a name of its own."""

CHANGED: Final = {
    *(("accept", "expectations"), ("expectations migrate", "paths"), ("expectations new", "expectations")),
    ("predict", "expectations"),
}
"""Options that name what is read, shown and then changed: only what reads as such is ever replaced, so there is no --force."""


@dataclass(frozen=True)
class Case:
    """One way to use one option. `args` come before the option; `kind` is ``folder`` for those that make one."""

    option: tuple[str, str]
    args: tuple[str, ...]
    flag: str
    kind: str = "file"
    unasked: bool = True  # whether an earlier output is replaced without --force

    @property
    def new(self) -> str:
        """A name that a new one may have."""
        return "out.html" if self.option[0] == "report" else "out"

    def __str__(self) -> str:
        return " ".join((*self.args, self.flag))


CASES: Final = (
    Case(("report", "output"), ("report", "RUN", "--expectations", "mine"), "-o"),
    Case(("check", "junit"), ("check", "RUN", "--expectations", "mine"), "--junit"),
    Case(("check", "markdown"), ("check", "RUN", "--expectations", "mine"), "--markdown"),
    Case(("bundle", "output"), ("bundle", "RUN", "--expectations", "mine"), "-o"),
    *(
        Case(("export", "output"), ("export", "RUN", "--variant", "baseline", "--to", form), "-o", kind)
        for form, kind in (("perfetto", "file"), ("json", "file"), ("csv", "folder"), ("parquet", "folder"))
    ),
    Case(("export", "output"), ("export", "RUN", "--variant", "baseline", "--scrub"), "-o", unasked=False),
)
FILES: Final = tuple(case for case in CASES if case.kind == "file")
FOLDERS: Final = tuple(case for case in CASES if case.kind == "folder")
JUDGED: Final = tuple(case for case in CASES if "mine" in case.args)

SOURCES: Final = {("kernels emit", "output"), ("kernels search", "output")}
"""Options that name a source to write, with a Makefile beside it, from no input: tests/test_kernel_emit.py tries the first, and
tests/test_kernel_search.py the second, which is written by the same function."""

PAGES: Final = {("ranks", "output")}
"""Options whose output is one of `CASES` kinds, from inputs that these have not: tests/test_ranks_command.py tries it."""

PATHS: Final = ("FILE", "DIR", "OUT", "FOLDER", "PATH", "RUN", "TRACE", "OPT", ".py")
"""What the metavar of a parameter that is no `Path` holds if it names a file all the same."""


# --- all options are known --------------------------------------------------------------------------------------------


def parameters() -> Iterator[tuple[tuple[str, str], Any]]:
    """Every parameter of every command that names a file or folder, with its annotation."""
    for action in actions():
        for name, hint in typing.get_type_hints(action.function, include_extras=True).items():
            described = [str(getattr(m, t)) for m in getattr(hint, "__metadata__", ()) for t in ("metavar", "help")]
            if "Path" in str(hint) or ("str" in str(hint) and any(p in d for d in described for p in PATHS)):
                yield (str(action), name), hint


def test_every_option_with_a_path_is_known_as_read_or_as_written() -> None:
    found = {parameter for parameter, _ in parameters()}
    written = {case.option for case in CASES} | CONTAINERS | CHANGED | SOURCES | PAGES
    assert found - READ - written == set(), "a new option with a path: list it above"
    assert (READ | written) - found == set(), "an option that is gone"
    assert not READ & written


def test_every_command_that_writes_what_it_is_told_has_force() -> None:
    for name in {case.option[0] for case in CASES}:
        done = {p: h for p, h in typing.get_type_hints(_function(name), include_extras=True).items() if p == "force"}
        assert FORCE in [getattr(m, "help", "") for m in done["force"].__metadata__], name


def _function(command: str) -> Any:
    return importlib.import_module(f"aisp_trace.cli.commands.{command}").run


WRITERS: Final = {
    "report/export/traces.py": "a stream over the path that `Output.file` gave",
    "report/proof.py": "the parts of a bundle, in a temporary folder of its own",
    "analyze/ranks/partials.py": "a partial, in memory and then where `output.replacing` puts it",
    "expectations/claims/committed.py": "what git has, in a temporary folder of its own",
    "analyze/kept.py": "analyses used longest ago, in a folder that holds nothing else",
    "report/export/tables.py": "tables, in the folder that `Output.folder` gave",
}
CALLS: Final = (
    *(
        "write_text",
        "write_bytes",
        "mkstemp",
        "mkdtemp",
        "NamedTemporaryFile",
        "write_parquet",
        "write_csv",
        "copyfile",
    ),
    *(
        "copy",
        "copy2",
        "move",
        "touch",
        "symlink_to",
        "hardlink_to",
        "unlink",
        "rmtree",
        "rmdir",
        "to_csv",
        "to_parquet",
    ),
)


def writes(source: str) -> list[str]:
    """Calls in `source` that write, make or remove files, apart from methods of an `Output`."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        owner = ast.unparse(node.func.value) if isinstance(node.func, ast.Attribute) else ""
        modes = [a.value for a in (*node.args, *(k.value for k in node.keywords)) if isinstance(a, ast.Constant)]
        opened = name in ("open", "fdopen") and any(
            isinstance(m, str) and set(m) & set("wax+") and len(m) < 4 for m in modes
        )
        moved = name in ("replace", "rename") and owner in ("os", "shutil")
        if opened or moved or (name in CALLS and owner not in ("target", "output", "self.junit", "self.markdown")):
            found.append(f"line {node.lineno}: {ast.unparse(node.func)}")
    return found


def test_nothing_else_above_the_rule_writes_files() -> None:
    found = {}
    for folder in ("cli", "report", "expectations", "analyze"):
        for file in sorted((ROOT / folder).rglob("*.py")):
            name = file.relative_to(ROOT).as_posix()
            if name not in WRITERS and (calls := writes(file.read_text(encoding="utf-8"))):
                found[name] = [c for c in calls if not c.endswith((".copy", "output(path).write_text"))]
    assert {name: calls for name, calls in found.items() if calls} == {}


@pytest.mark.parametrize(
    "source",
    [
        "path.write_text(page)",
        "Path(o).write_bytes(b'')",
        "open(path, 'w').write(x)",
        "path.open('wb')",
        "path.open(mode='a')",
        "os.replace(a, b)",
        "frame.write_csv(path)",
        "tempfile.mkstemp()",
    ],
)
def test_a_writer_of_its_own_is_found(source: str) -> None:
    assert len(writes(source)) == 1


# --- what each of them refuses ----------------------------------------------------------------------------------------

Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a run of two variants, expectations, and a program of the user's own; the current one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    run = run_folder(tmp_path / "RUN")
    for variant in ("baseline", "optimized"):
        (run / variant).mkdir()
        export = NsysExport().call(5, 8, "cudaLaunchKernel", correlationId=1).kernel(10, 20)
        export.write(run / variant / "trace.sqlite")
        (run / variant / "nsys-profile.stderr.log").write_text("log")
    put(tmp_path / "mine", "expectations_h100.json", text(TIME, key="h100"))
    (tmp_path / "data" / "aisp-trace").mkdir(parents=True)
    shutil.copy(ROOT / "expectations" / "calibration_h200.json", tmp_path / "data" / "aisp-trace")
    (tmp_path / "train.py").write_text("import torch\n")
    return tmp_path


@pytest.fixture
def call(place: Path, capsys: pytest.CaptureFixture[str]) -> Call:
    """Run the command line; answers exit code, stdout and stderr."""

    def run(case: Case, target: str | Path, *more: str) -> tuple[int, str, str]:
        code = main([*case.args, case.flag, str(target), *more])
        shown = capsys.readouterr()
        return code, shown.out, shown.err

    return run


def contents(folder: Path) -> dict[str, bytes | str | None]:
    """Everything below `folder`: files by content, links by target."""
    return {
        p.relative_to(folder).as_posix(): str(p.readlink())
        if p.is_symlink()
        else p.read_bytes()
        if p.is_file()
        else None
        for p in folder.rglob("*")
    }


def refused(call: Call, place: Path, case: Case, target: str | Path, *more: str) -> str:
    """The sentence of a refusal that changes nothing."""
    before = contents(place)
    code, out, err = call(case, target, *more)
    assert (code, out) == (2, ""), f"{case} {target} {more}: {code} {out}{err}"
    assert err.startswith("aisp-trace: ") and err.count("\n") == 1 and str(target) in err, err
    assert contents(place) == before, f"{case} {target} changed something"
    return err


@pytest.mark.parametrize("case", FILES, ids=str)
def test_no_input_is_written_even_with_force(case: Case, call: Call, place: Path) -> None:
    (place / "link.sqlite").symlink_to("RUN/baseline/trace.sqlite")
    (place / "hard.sqlite").hardlink_to("RUN/baseline/trace.sqlite")
    named = [str(p) for p in Path("RUN").rglob("*") if p.is_file()]
    named += ["./RUN/../RUN/manifest.json", "link.sqlite", "hard.sqlite", "data/aisp-trace/calibration_h200.json"]
    named += ["mine/expectations_h100.json"] if case in JUDGED else []
    for target in named:
        assert "cannot be the output too" in refused(call, place, case, Path(target), "--force")
        refused(call, place, case, Path(target))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_places_that_are_none(case: Case, call: Call, place: Path) -> None:
    assert "absent is not a folder; make it first" in refused(call, place, case, "absent/out", "--force")
    assert "train.py is not a folder; make it first" in refused(call, place, case, "train.py/out", "--force")
    assert "name too long" in refused(call, place, case, "n" * 256, "--force")
    for folder in (".", "mine", "RUN", "RUN/baseline"):
        sentence = refused(call, place, case, folder, "--force")
        assert ("is a folder where a file" if case in FILES else "is not replaced, even with --force") in sentence
    if case in FOLDERS:
        assert "is a file where a folder" in refused(call, place, case, "train.py", "--force")
        assert "is a file where a folder" in refused(call, place, case, "/dev/null", "--force")
        assert "standard output" in refused(call, place, case, "-")


@pytest.mark.parametrize("case", FILES, ids=str)
def test_a_file_of_another_kind_takes_force_and_the_same_kind_none(case: Case, call: Call, place: Path) -> None:
    assert "or replace it with --force" in refused(call, place, case, "train.py")
    assert call(case, "train.py", "--force")[0] != 2
    written = (place / "train.py").read_bytes()
    assert len(written) > 50 and written != b"import torch\n"
    code, _, err = call(case, "train.py")
    if case.unasked:
        assert code != 2, err
    else:
        assert code == 2 and "is not replaced unasked" in err
    names = {p.name for p in place.iterdir()}
    assert names == {"RUN", "mine", "data", "train.py"}, "nothing is left beside it"
    for other in FILES:  # what one of them wrote is of another kind for all the others
        if other is not case:
            refused(call, place, other, "train.py")


def test_a_new_page_is_called_as_browsers_open_it(call: Call, place: Path) -> None:
    case = next(c for c in CASES if c.option[0] == "report")
    (place / "link").symlink_to("far.pdf")
    for name in ("x.pdf", "x", "x.html.gz", "link", "html"):
        for more in ((), ("--force",)):
            sentence = refused(call, place, case, name, *more)
            assert "is an HTML page; name a file that ends in .html with --output" in sentence
    for name in ("x.HTML", "x.htm", "/dev/null"):
        assert call(case, name)[0] != 2
    assert {"x.HTML", "x.htm"} <= {p.name for p in place.iterdir()}


def test_a_page_that_gave_way_is_told(call: Call, place: Path) -> None:
    case = next(c for c in CASES if c.option[0] == "report")
    (place / "link.html").symlink_to("out.html")
    told = [call(case, name)[1] for name in ("out.html", "out.html", "link.html")]
    assert [text.count("(replaced)") for text in told] == [0, 1, 1]
    assert "(replaced)" in call(case, "train.py", "--force")[1]
    assert "(replaced)" not in call(case, "/dev/null")[1]


@pytest.mark.parametrize("case", FOLDERS, ids=str)
def test_a_folder_is_replaced_if_it_is_an_export_and_nothing_else(case: Case, call: Call, place: Path) -> None:
    for _ in range(2):
        assert call(case, "out")[0] == 0
    (place / "out" / "trace" / "notes.txt").write_text("mine")
    assert "trace/notes.txt, which is not part" in refused(call, place, case, "out", "--force")


@pytest.mark.parametrize(
    "case", [pytest.param(c, id=str(c), marks=pytest.mark.nightly if i % 3 else ()) for i, c in enumerate(FILES)]
)
def test_links_devices_and_standard_output(case: Case, call: Call, place: Path) -> None:
    far = place / case.new
    (place / "link").symlink_to(far.name)
    assert call(case, "link")[0] != 2
    assert (place / "link").is_symlink() and far.stat().st_size > 50
    assert call(case, "/dev/null")[0] != 2 and Path("/dev/null").is_char_device()
    assert "No space left on device" in refused(call, place, case, "/dev/full")
    for name in ("-", "/dev/stdout") if case == FILES[1] else ("-",):  # one way to both, which takes a process each
        command = [sys.executable, "-P", "-m", "aisp_trace.cli", *case.args, case.flag, name]
        done = subprocess.run(command, capture_output=True, timeout=PATIENCE_S)
        assert done.returncode in (0, 1, 3), done.stderr
        # Nothing else goes there: as many bytes as in the file, whose content may differ by the time of day alone.
        assert done.stdout[:20] == far.read_bytes()[:20] and done.stderr
        assert len(done.stdout) == far.stat().st_size


@pytest.mark.parametrize("case", CASES, ids=str)
def test_no_room_is_a_sentence_and_the_old_stays(case: Case, call: Call, place: Path) -> None:
    assert call(case, case.new, "--force")[0] != 2
    before = contents(place)
    program = (
        "import resource, sys\nfrom aisp_trace.cli.main import main\n"
        f"import aisp_trace.cli.commands.{case.option[0]}\nresource.setrlimit(resource.RLIMIT_FSIZE, (200, 200))\n"
        "sys.exit(main(sys.argv[1:]))"
    )
    command = [sys.executable, "-P", "-c", program, *case.args, case.flag, case.new, "--force"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith(f"aisp-trace: {case.new} cannot be written: ") and done.stderr.count("\n") == 1, (
        done.stderr
    )
    assert contents(place) == before


@pytest.mark.parametrize("case", [c for c in CASES if c.option[0] == "export"], ids=str)
def test_a_bare_trace_and_what_is_read_beside_it(case: Case, call: Call, place: Path) -> None:
    shutil.copy(ROOT / "traces" / "samples" / "h100_pipeline_decode_kineto.json.gz", place / "trace.json.gz")
    (place / "stages.json").write_text('{"schema": "aisp-trace/stages/1", "ranges": []}')
    if case in FILES and "--scrub" not in case.args:
        words = [w if w != "RUN" else "trace.json.gz" for w in case.args if w not in ("--variant", "baseline")]
        bare = Case(case.option, tuple(words), case.flag)
        for target in ("trace.json.gz", "stages.json"):
            assert "cannot be the output too" in refused(call, place, bare, target, "--force")


# --- several outputs, containers, and what is appended to ---------------------------------------------------------------


def test_a_run_of_several_traces_needs_a_place_for_each(call: Call, place: Path) -> None:
    for how in (("--to", "perfetto"), ("--scrub",)):
        case = Case(("export", "output"), ("export", "RUN", *how), "-o")
        assert "name one with --variant" in refused(call, place, case, "/dev/stdout")
        for folder in (".", "..", "/", "mine"):
            assert "is a folder where a file" in refused(call, place, case, folder, "--force")
        assert "cannot be the output too" in refused(call, place, case, "RUN/manifest.json", "--force")
        assert "name too long" in refused(call, place, case, "n" * 256)
        assert "name too long" in refused(call, place, case, "n" * 250)
        assert call(case, "/dev/null")[0] == 0
        assert not list(Path("/dev").glob("null.*"))
        (place / "out.optimized.x").write_text("mine")
        before = contents(place)
        assert call(case, "out.x")[0] == 2 and contents(place) == before


def test_junit_and_markdown_are_two_files(call: Call, place: Path) -> None:
    case = Case(("check", "junit"), ("check", "RUN", "--expectations", "mine", "--markdown", "train.md"), "--junit")
    assert "--junit and --markdown both name" in refused(call, place, case, "train.md")
    (place / "link.md").symlink_to("train.md")
    assert "both name" in call(case, "link.md")[2]
    only = Case(("check", "junit"), ("check", "RUN", "--json", "--expectations", "mine"), "--junit")
    code, out, err = call(only, "-")
    assert code == 2 and "--json and --junit both go to standard output" in err and out == ""


def test_what_people_add_to_a_summary_is_theirs(call: Call, place: Path) -> None:
    case = next(c for c in CASES if c.option[1] == "markdown")
    assert call(case, "out.md")[0] != 2
    with (place / "out.md").open("a", encoding="utf-8") as file:
        file.write("\nTo do: ask Ada.\n")
    assert "is not a Markdown summary of aisp-trace" in refused(call, place, case, "out.md")


@pytest.mark.parametrize("target", ["RUN/manifest.json", "mine/expectations_h100.json", "out.xml", "mine"])
def test_the_step_summary_is_never_an_input_nor_another_output(
    target: str, call: Call, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = next(c for c in CASES if c.option[1] == "junit")
    assert call(case, "out.xml")[0] != 2
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", target)
    before = contents(place)
    code, out, err = call(case, "out.xml")
    assert code != 2 and out, "it was not asked for, so the verdict stands"
    assert err.startswith("aisp-trace: the verdicts could not be appended to $GITHUB_STEP_SUMMARY: ") and target in err
    assert contents(place) == before


@pytest.mark.parametrize(
    "words",
    [
        ("--profile", "none", "--dry-run", "pipeline_sequential", "--device", "cpu"),
        ("--profile", "none", "pipeline_sequential", "--device", "cpu"),
        ("--calibrate",),
    ],
)
def test_a_container_is_a_folder_that_is_made_and_nothing_above_it(
    words: tuple[str, ...], place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = contents(place)
    for target, sentence in [
        ("train.py", "train.py is a file where a folder is to be written"),
        ("absent/runs", "absent is not a folder; make it first"),
        ("/dev/null", "/dev/null is a file where a folder is to be written"),
        ("n" * 256, "name too long"),
    ]:
        assert main(["capture", *words, "--output", target]) == 2
        shown = capsys.readouterr()
        assert sentence in shown.err and shown.err.count("\n") == 1 and shown.out == "", shown.err
        assert contents(place) == before


@pytest.mark.parametrize("variant", ["../../train.py", "/tmp/x", "..", "", "a/b"])
def test_a_variant_never_leads_out_of_its_run(variant: str, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "work.py").write_text("from aisp_trace.workloads import interface\n", encoding="utf-8")
    before = contents(place)
    assert main(["capture", "work.py", "--variant", variant, "--profile", "none", "--device", "cpu"]) == 2
    assert "and it names a folder; use letters" in capsys.readouterr().err
    assert contents(place) == before


@pytest.mark.parametrize("words", [("accept", "RUN", "--yes"), ("expectations", "new", "pipeline_sequential")])
def test_nothing_but_expectations_is_changed(
    words: tuple[str, ...], place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (place / "mine" / "expectations_h100.json").rename(place / "kept.json")
    (place / "mine" / "expectations_h100.json").symlink_to("../train.py")
    before = contents(place)
    for target in ("train.py", "RUN/manifest.json", "mine", "mine/expectations_h100.json", "absent/mine", "absent"):
        if target == "mine" and words[0] == "expectations":
            continue  # a folder has room for another machine's file
        assert main([*words, "--expectations", target]) == 2
        shown = capsys.readouterr()
        assert shown.err.count("\n") == 1, shown.err
        assert contents(place) == before


def test_a_bundle_without_room_to_unpack_is_not_called_damaged(place: Path) -> None:
    assert main(["bundle", "RUN", "--expectations", "mine", "-o", "b.tar.gz"]) == 0
    program = (
        "import resource, sys\nfrom aisp_trace.cli.main import main\nimport aisp_trace.report.proof\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (200, 200))\nsys.exit(main(['bundle', 'verify', 'b.tar.gz']))"
    )
    (place / "tmp").mkdir()
    environment = {**os.environ, "TMPDIR": str(place / "tmp")}
    done = subprocess.run([sys.executable, "-P", "-c", program], capture_output=True, text=True, env=environment)
    assert done.returncode == 2 and "set TMPDIR to another disk" in done.stderr and "damaged" not in done.stderr
    assert list((place / "tmp").iterdir()) == []

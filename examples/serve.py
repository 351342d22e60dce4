"""A small inference server of several processes, to record a part of it while it works.

    aisp-trace capture --delay 5 --duration 5 examples/serve.py --port 8123
    curl -d '[0.1, 0.2, 0.3]' http://127.0.0.1:8123/          # in another terminal, again and again

One process answers HTTP; `--workers` processes batch requests and run the model, as inference servers do. Each batch is three
stages: `wait` for requests, `batch` them, `forward`. The server ends by Ctrl-C, or after `--seconds`.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import queue
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing.queues import Queue
from typing import Any, Final

import torch

from aisp_trace import stage

WIDTH: Final = 256
"""Numbers in a request, of which those that are not given are 0."""
LARGEST_BATCH: Final = 16
WAIT_S: Final = 0.01
"""How long a batch waits to become larger."""


def work(requests: Queue[tuple[int, list[float]]], answers: Queue[tuple[int, float]]) -> None:
    """Take requests, run the model on batches of them, and answer; forever."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(WIDTH, 1024), torch.nn.GELU(), torch.nn.Linear(1024, 1)).eval()
    with torch.inference_mode():
        while True:
            with stage("wait", kind="host"):
                taken = [requests.get()]
                until = time.monotonic() + WAIT_S
                while len(taken) < LARGEST_BATCH and (left := until - time.monotonic()) > 0:
                    try:
                        taken.append(requests.get(timeout=left))
                    except queue.Empty:
                        break
            with stage("batch", kind="host"):
                rows = [(row + [0.0] * WIDTH)[:WIDTH] for _, row in taken]
                inputs = torch.tensor(rows)
            with stage("forward", kind="compute"):
                outputs = model(inputs)[:, 0].tolist()
            for (number, _), output in zip(taken, outputs, strict=True):
                answers.put((number, output))


class Desk:
    """Hands requests to the workers, and their answers to the threads that wait for them."""

    def __init__(self, workers: int) -> None:
        context = multiprocessing.get_context("spawn")
        self.requests: Queue[tuple[int, list[float]]] = context.Queue()
        self.answers: Queue[tuple[int, float]] = context.Queue()
        self._waiting: dict[int, queue.SimpleQueue[float]] = {}
        self._numbers = iter(range(1 << 62))
        self._lock = threading.Lock()
        for _ in range(workers):
            context.Process(target=work, args=(self.requests, self.answers), daemon=True).start()
        threading.Thread(target=self._deliver, daemon=True).start()

    def ask(self, row: list[float]) -> float:
        """The model's answer to one request."""
        answer: queue.SimpleQueue[float] = queue.SimpleQueue()
        with self._lock:
            number = next(self._numbers)
            self._waiting[number] = answer
        self.requests.put((number, row))
        return answer.get()

    def _deliver(self) -> None:
        while True:
            number, output = self.answers.get()
            with self._lock:
                answer = self._waiting.pop(number)
            answer.put(output)


def main() -> None:
    """Serve until told to stop."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--port", type=int, default=8123, help="0: any, which it says")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seconds", type=float, help="end after so long")
    asked = parser.parse_args()
    desk = Desk(asked.workers)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            """One request: a JSON list of numbers."""
            row = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            body = json.dumps(desk.ask(row)).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Say nothing of each request."""

    server = ThreadingHTTPServer(("127.0.0.1", asked.port), Handler)
    print(f"serving at http://127.0.0.1:{server.server_port}/", flush=True)
    if asked.seconds is not None:
        threading.Timer(asked.seconds, server.shutdown).start()
    server.serve_forever()
    print("no longer serving", flush=True)


if __name__ == "__main__":
    main()

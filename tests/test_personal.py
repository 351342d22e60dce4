"""The policy of what may leave the machine: what it replaces, what it leaves, and that names stay apart."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aisp_trace.traces.scrub.personal import Policy

KEY = "AKIAIOSFODNN7EXAMPLE"


def policy() -> Policy:
    return Policy(["mallory"], ["blackbox7.lab", "blackbox7"])


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("load /mnt/nfs/secret-customer/dataset/train.bin", "load train.bin"),
        (
            "{'traceMarker': ['/home/alice/torch/nn/conv.py:443', 'net/conv2d']}",
            "{'traceMarker': ['conv.py:443', 'net/conv2d']}",
        ),
        ("XlaModule:#source_file=C:\\Users\\bobby\\model.py#", "XlaModule:#source_file=model.py#"),
        ("\\\\filer\\share\\weights", "(path a)"),
        ("/home/alice", "(path a)"),
        ("/secretcorp/weights", "(path a)"),
        ("see '/home/alice/My Docs/customer/x.bin'", "see 'x.bin'"),
        ("read /home/alice/My Docs/customer/x.bin", "read x.bin"),
        ("~alice/x.py ~/y.py ../../z", "x.py y.py (path a)"),
        ("file:///home/alice/x.py", "file:x.py"),
        ("/home/alice/a.py then alice-worker", "a.py then (user a)-worker"),
        ("on BLACKBOX7 for mallory, not on blackbox70", "on (host a) for (user a), not on blackbox70"),
        ("mail a.b@example.com, ssh carol@node", "mail (address a), ssh (address b)"),
        ("https://u:p@git.example.com/x?token=y", "(address a)"),
        ("10.1.2.3 fe80::1 00:1a:2b:3c:4d:5e", "(address c) (address b) (address a)"),
        ("node17.cluster.internal", "(address a)"),
        ("train --token=hunter22 --password hunter33 --lr 1", "train --token=(secret a) --password (secret b) --lr 1"),
        ('API_KEY=\'a b\' and "db_password": "c d"', 'API_KEY=\'(secret a)\' and "db_password": "(secret b)"'),
        ("password=hunter22 then hunter22", "password=(secret a) then (secret a)"),
        (f"step {KEY}", "step (secret a)"),
        (f"/data/{KEY}/x", "(path a)"),
        ("sk-proj-abcdefghijklmnop0123", "(secret a)"),
        ("ghp_0123456789abcdefghijABCDEFGHIJ012345", "(secret a)"),
        ("hf_abcdefghijklmnopqrstuvwxyz", "(secret a)"),
        ("Authorization: Bearer abcdefghij", "Authorization: Bearer (secret a)"),
        ("-----BEGIN RSA PRIVATE KEY-----\nabc\n-----END RSA PRIVATE KEY-----", "(secret a)"),
    ],
)
def test_it_is_replaced_and_stays_replaced(text: str, clean: str) -> None:
    one = policy()
    assert one.text(text) == clean
    assert policy().text(clean) == clean
    assert one.text(text) == clean, "the same text, the same words"


@pytest.mark.parametrize(
    "text",
    [
        "decode token=17 tokens=512 num_tokens: 5 max_new_tokens=64",
        "/layers.0/attn/MatMul_1",
        "fwd/bwd 1/2 a / b net/conv2d",
        "void at::native::vectorized_elementwise_kernel<4, at::native::(anonymous namespace)::Add<float>>(int, c10::Half)",
        "Token::Kind cutlass::gemm::device::Gemm",
        "memcpy@GLIBC_2.14 measured@aisp 12.4.131 2025.3.1.90-253135822126v0 cudnn==9.1.0.70",
        "torch.nn.modules threading.local step 12:30:45 max root user",
        "127.0.0.1:8080 ::1",
    ],
)
def test_what_a_reader_needs_stays(text: str) -> None:
    assert policy().name(text) == text


def test_names_that_differ_never_become_one() -> None:
    one = policy()
    assert [one.name(n) for n in ("load /a1/x.bin", "load /b1/x.bin", "load x.bin", "load /a1/x.bin")] == [
        "load x.bin",
        "load x.bin (b)",
        "load x.bin (c)",
        "load x.bin",
    ]


@given(st.lists(st.text() | st.text(alphabet="/.ab@:=x' "), unique=True, max_size=12))
def test_no_two_names_of_any_text_become_one(names: list[str]) -> None:
    one = policy()
    first = [one.name(n) for n in names]
    assert len(set(first)) == len(names)
    assert [one.name(n) for n in names] == first


def test_what_the_environment_names_is_found_elsewhere() -> None:
    one = Policy()
    one.learn("WANDB_API_KEY=0123456789abcdef")
    one.learn("HOSTNAME=dgx-17.corp")
    one.learn("HOME=/home/alice")
    assert one.text("run 0123456789abcdef on dgx-17 of alice") == "run (secret a) on (host a) of (user a)"
    assert [(r.kind, r.original, r.times) for r in one.replaced] == [
        ("secret", "0123456789abcdef", 1),
        ("host", "dgx-17", 1),
        ("user", "alice", 1),
    ]


@pytest.mark.parametrize(
    "piece", ["/a ", "token", "a@", "a.", ":", "a:", "x=", "\\\\", "'/a", "-token ", "-----BEGIN PRIVATE KEY-----", "~"]
)
def test_long_hostile_names_take_no_time(piece: str) -> None:
    start = time.process_time()
    policy().name(piece * (100_000 // len(piece)))
    assert time.process_time() - start < 3

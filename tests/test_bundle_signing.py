"""Signed bundles: who signed is said, and a changed byte, a swapped signature or another key is refused."""

from __future__ import annotations

import base64
import gzip
import io
import json
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa

from aisp_trace.cli.main import main
from aisp_trace.report.terminal.bundles import signer
from aisp_trace.tests.builders.samples import ROOT, SAMPLES
from aisp_trace.traces.bundle import INDEX, SIGNATURE, pack, unpack
from aisp_trace.traces.errors import InputError, UsageError
from aisp_trace.traces.signing import Key, fingerprint, is_public, is_right, load_key, load_signers

RUN: Final = SAMPLES / "h200_pipeline_sequential"
EXPECTATIONS: Final = ROOT / "expectations"
MADE_WITH: Final = {"aisp-trace": "0.1.0"}
PRIVATE: Final = (serialization.PrivateFormat.OpenSSH, serialization.PrivateFormat.PKCS8)


def no_passphrase() -> str:
    raise AssertionError("the key has none")


def write_key(file: Path, form: serialization.PrivateFormat = PRIVATE[0], passphrase: bytes = b"") -> Path:
    """A new key in `file`, and its public part beside it, as `ssh-keygen` writes both."""
    key = ed25519.Ed25519PrivateKey.generate()
    how = serialization.BestAvailableEncryption(passphrase) if passphrase else serialization.NoEncryption()
    file.write_bytes(key.private_bytes(serialization.Encoding.PEM, form, how))
    public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    file.with_name(f"{file.name}.pub").write_bytes(public + b" maker@host\n")
    return file


@pytest.fixture
def key(tmp_path: Path) -> Key:
    return load_key(write_key(tmp_path / "key"), no_passphrase)


@pytest.fixture
def other(tmp_path: Path) -> Key:
    return load_key(write_key(tmp_path / "other"), no_passphrase)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "folder"
    made.mkdir()
    (made / "a.txt").write_bytes(b"evidence\n" * 100)
    return made


def signed(folder: Path, key: Key | None, name: str = "x.tar.gz") -> Path:
    target = folder.parent / name
    pack(folder, target, "run-1", MADE_WITH, key=key)
    return target


def out(tmp_path: Path) -> Path:
    made = tmp_path / f"out{len(list(tmp_path.iterdir()))}"
    made.mkdir()
    return made


Members = list[tuple[tarfile.TarInfo, bytes]]


def members(file: Path) -> Members:
    with tarfile.open(file) as archive:
        return [(one, archive.extractfile(one).read()) for one in archive]  # type: ignore[union-attr]


def rewritten(file: Path, change: Callable[[Members], Members]) -> Path:
    """The bundle with other members, each with a header of its own length."""
    target = file.with_name("rewritten.tar.gz")
    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for info, content in change(members(file)):
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    target.write_bytes(gzip.compress(whole.getvalue(), 1))
    return target


def replaced(name: str, content: bytes) -> Callable[[Members], Members]:
    return lambda found: [(one, content if one.name.endswith(f"/{name}") else data) for one, data in found]


def without(name: str) -> Callable[[Members], Members]:
    return lambda found: [(one, data) for one, data in found if not one.name.endswith(f"/{name}")]


# --- the archive ------------------------------------------------------------------------------------------------------


def test_a_signature_says_whose_the_bundle_is(folder: Path, key: Key, tmp_path: Path) -> None:
    file = signed(folder, key)
    found = unpack(file, out(tmp_path), [key.public])
    assert (found.index.signed_by, found.signature_checked) == (key.public, True)
    assert (
        signer(found, None)
        == f"{fingerprint(key.public)}, the signature is right; whose key that is, --signer PUBKEY asks"
    )
    assert unpack(file, out(tmp_path)).signature_checked
    assert signed(folder, key, "again.tar.gz").read_bytes() == file.read_bytes()
    assert (tmp_path / "folder" / "a.txt").read_bytes() == b"evidence\n" * 100


def test_an_unsigned_bundle_has_no_word_of_signatures(folder: Path, key: Key, tmp_path: Path) -> None:
    file = signed(folder, None)
    found = unpack(file, out(tmp_path))
    assert (found.index.signed_by, found.signature_checked) == (None, False)
    assert signer(found, None).startswith("nobody: the bundle is unsigned")
    assert [one.name for one, _ in members(file)] == ["run-1/index.json", "run-1/a.txt"]
    assert b"sign" not in members(file)[0][1]
    with pytest.raises(InputError, match=r"is unsigned, and was to be signed by SHA256:"):
        unpack(file, out(tmp_path), [key.public])


def test_every_changed_byte_is_refused(folder: Path, key: Key, tmp_path: Path) -> None:
    """Of the whole archive, what the index says of its makers included."""
    whole = gzip.decompress(signed(folder, key).read_bytes())
    for at in range(0, len(whole), 23):
        changed = bytearray(whole)
        changed[at] ^= 1
        file = tmp_path / "changed.tar.gz"
        file.write_bytes(gzip.compress(bytes(changed), 1))
        with pytest.raises(InputError):
            unpack(file, out(tmp_path))


def test_a_swapped_signature_is_refused(folder: Path, key: Key, other: Key, tmp_path: Path) -> None:
    file = signed(folder, key)
    identity = unpack(file, out(tmp_path)).identity
    (folder / "a.txt").write_bytes(b"other evidence\n")
    theirs = {one.name: data for one, data in members(signed(folder, key, "other.tar.gz"))}
    bare = base64.b64encode(key._private.sign(identity.encode())) + b"\n"
    for swapped in (other.sign(identity), theirs[f"run-1/{SIGNATURE}"], bare, b"A" * 88 + b"\n"):
        with pytest.raises(InputError, match="its signature is not that of SHA256:"):
            unpack(rewritten(file, replaced(SIGNATURE, swapped)), out(tmp_path))


def test_a_signature_that_is_gone_is_missed(folder: Path, key: Key, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="names a signer, and no signature follows"):
        unpack(rewritten(signed(folder, key), without(SIGNATURE)), out(tmp_path))


def test_whoever_makes_the_index_anew_has_made_another_bundle(
    folder: Path, key: Key, other: Key, tmp_path: Path
) -> None:
    """Without a signer it is unsigned, with another one it is theirs; neither is what the reader asks for."""
    file = signed(folder, key)
    index = json.loads(members(file)[0][1])
    identity = unpack(file, out(tmp_path)).identity
    del index["signed_by"]
    text = (json.dumps(index, indent=1) + "\n").encode()
    stripped = rewritten(file, lambda found: replaced(INDEX, text)(without(SIGNATURE)(found)))
    assert unpack(stripped, out(tmp_path)).identity != identity
    with pytest.raises(InputError, match="is unsigned"):
        unpack(stripped, out(tmp_path), [key.public])
    with pytest.raises(InputError, match=r"is signed by SHA256:.*, and was to be signed by SHA256:.* or SHA256:"):
        unpack(signed(folder, other), out(tmp_path), [key.public, load_key(write_key(tmp_path / "k3"), str).public])
    index["signed_by"] = "root"
    text = (json.dumps(index, indent=1) + "\n").encode()
    with pytest.raises(InputError, match="names a signer that is not a public key"):
        unpack(rewritten(file, replaced(INDEX, text)), out(tmp_path))


def test_without_the_library_nobody_claims_to_have_checked(
    folder: Path, key: Key, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = signed(folder, key)
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives", None)
    found = unpack(file, out(tmp_path))
    assert (found.index.signed_by, found.signature_checked) == (key.public, False)
    assert "by its own account, which was not checked" in signer(found, None)
    for refused in (lambda: unpack(file, out(tmp_path), [key.public]), lambda: load_key(tmp_path / "key", str)):
        with pytest.raises(UsageError, match=r"pip install 'aisp-trace\[sign\]'"):
            refused()
    assert load_signers(tmp_path / "key.pub") == (key.public,)


# --- keys -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", PRIVATE)
@pytest.mark.parametrize("passphrase", [b"", b"open sesame"])
def test_a_key_is_read_as_ssh_keygen_and_openssl_write_it(
    form: serialization.PrivateFormat, passphrase: bytes, tmp_path: Path
) -> None:
    file = write_key(tmp_path / "key", form, passphrase)
    key = load_key(file, passphrase.decode if passphrase else no_passphrase)
    assert load_signers(tmp_path / "key.pub") == (key.public,)
    assert is_public(key.public)
    assert is_right(key.public, "a" * 64, key.sign("a" * 64)) is True
    assert is_right(key.public, "b" * 64, key.sign("a" * 64)) is False
    assert str(key._private) not in repr(key) and fingerprint(key.public) in repr(key)
    if passphrase:
        with pytest.raises(InputError, match="or its passphrase is another"):
            load_key(file, lambda: "wrong")


def test_the_documented_line_makes_a_key(tmp_path: Path) -> None:
    """Where OpenSSH is installed; it gives the key the name that we do."""
    line = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "bundle_key")]
    try:
        subprocess.run(line, check=True)
    except FileNotFoundError:
        pytest.skip("OpenSSH is not installed")
    key = load_key(tmp_path / "bundle_key", no_passphrase)
    said = subprocess.run(
        ["ssh-keygen", "-lf", tmp_path / "bundle_key.pub"], check=True, capture_output=True, text=True
    )
    assert fingerprint(key.public) in said.stdout.split()
    assert load_signers(tmp_path / "bundle_key.pub") == (key.public,)
    assert "ssh-keygen -t ed25519 -N '' -f ~/.ssh/bundle_key" in (ROOT / "docs" / "ci.md").read_text(encoding="utf-8")


def test_a_file_of_signers_may_hold_those_of_a_team(tmp_path: Path) -> None:
    lines = ["# ssh-ed25519 AAAA of nobody", "ssh-rsa AAAAB3Nza of somebody else"]
    for name in "ab":
        write_key(tmp_path / name)
        lines.append((tmp_path / f"{name}.pub").read_text().strip())
    (tmp_path / "team").write_text("\n".join(lines))
    assert load_signers(tmp_path / "team") == tuple(load_key(tmp_path / name, str).public for name in "ab")


def test_what_is_no_key_is_told_in_one_sentence(tmp_path: Path, key: Key) -> None:
    foreign = rsa.generate_private_key(65537, 2048)
    how = (serialization.Encoding.PEM, PRIVATE[0], serialization.NoEncryption())
    (tmp_path / "rsa").write_bytes(foreign.private_bytes(*how))
    (tmp_path / "long").write_bytes(b"a" * (1 << 17))
    (tmp_path / "bad.pub").write_bytes(b"ssh-ed25519 AAAA\n")
    pem = foreign.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    (tmp_path / "rsa.pem").write_bytes(pem)
    private = [
        ("key.pub", "holds a public key"),
        ("rsa", "none of Ed25519"),
        ("long", "longer than"),
        ("no", "cannot be read"),
    ]
    for name, words in [*private, ("bad.pub", "holds a public key"), ("rsa.pem", "holds a public key")]:
        with pytest.raises(InputError, match=words):
            load_key(tmp_path / name, no_passphrase)
    for name, words in (("key", "holds a private key"), ("bad.pub", "no public key"), ("rsa.pem", "no public key")):
        with pytest.raises(InputError, match=words):
            load_signers(tmp_path / name)
    assert not is_public("ssh-ed25519 ") and not is_public(f"{key.public} x") and not is_public(key.public[:-4])


# --- the command ------------------------------------------------------------------------------------------------------


def test_a_run_is_signed_and_its_signer_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The key lies where a bundle takes its files from, and is in none of them."""
    expectations = tmp_path / "expectations"
    expectations.mkdir()
    for file in EXPECTATIONS.glob("expectations_*.json"):
        (expectations / file.name).write_bytes(file.read_bytes())
    key, target = write_key(expectations / "expectations_key.pem"), tmp_path / "x.tar.gz"
    assert main(["bundle", str(RUN), "--expectations", str(expectations), "--sign", str(key), "-o", str(target)]) == 0
    whole = gzip.decompress(target.read_bytes())
    secret = b"".join(key.read_bytes().split(b"-----")[2].split())
    raw = load_key(key, no_passphrase)._private.private_bytes_raw()
    for form in (secret, secret[40:80], raw, raw.hex().encode(), base64.b64encode(raw), b"PRIVATE KEY", b"maker@host"):
        assert form not in whole
    public = load_key(key, no_passphrase).public
    assert f"signer    {fingerprint(public)}" in capsys.readouterr().out

    def verified(*options: str) -> tuple[int, str]:
        code = main(["bundle", "verify", str(target), *options])
        shown = capsys.readouterr()
        return code, shown.out + shown.err

    code, said = verified("--signer", f"{key}.pub")
    assert code == 0 and f"{fingerprint(public)}, which is in" in " ".join(said.split())
    code, said = verified("--json")
    assert json.loads(said)["signature"] == {"signer": fingerprint(public), "key": public, "checked": True}
    write_key(tmp_path / "other")
    code, said = verified("--signer", str(tmp_path / "other.pub"))
    assert code == 2 and "and was to be signed by" in said
    (verdict,) = (data for one, data in members(target) if one.name.endswith("/verdict.json"))
    forged = rewritten(target, replaced("verdict.json", verdict.replace(b'"met"', b'"mad"')))
    assert main(["bundle", "verify", str(forged)]) == 2
    assert "the checksum of verdict.json is wrong" in capsys.readouterr().err


def test_options_of_signing_belong_where_they_are_used(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    key = write_key(tmp_path / "key", passphrase=b"open sesame")
    plain = write_key(tmp_path / "plain")
    make = ["bundle", str(RUN), "--expectations", str(EXPECTATIONS), "-o", str(tmp_path / "x.tar.gz")]
    for words, said in (
        ([*make, "--sign", str(key)], "which only a terminal can be asked for"),
        ([*make, "--signer", str(key)], "--signer is for verifying"),
        (["bundle", "verify", "x", "--sign", str(key)], "verifying takes one bundle"),
        ([*make[:-1], str(plain), "--sign", str(plain), "--force"], str(plain)),
    ):
        before = plain.read_bytes()
        assert main(words) == 2
        assert said in " ".join(capsys.readouterr().err.split())
        assert plain.read_bytes() == before
    assert not (tmp_path / "x.tar.gz").exists()

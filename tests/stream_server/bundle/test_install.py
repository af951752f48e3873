"""install.sh as an operator runs it: it installs what was packed, or nothing."""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from unpacked_bundle import Unpacked, unpacked

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="install.sh is for Linux")


@pytest.fixture
def archive(tmp_path: Path) -> Unpacked:
    return unpacked(tmp_path)


def tree(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")} if folder.exists() else set()


def without_network() -> tuple[str, ...]:
    """Words before a command that give it a network namespace of its own, with nothing in it."""
    wrapper = ("unshare", "--net") if os.geteuid() == 0 else ("unshare", "--map-root-user", "--net")
    if shutil.which("unshare") is None:
        pytest.skip("needs unshare of util-linux")
    tried = subprocess.run([*wrapper, "true"], capture_output=True, text=True)
    if tried.returncode != 0:
        pytest.skip(f"needs CAP_SYS_ADMIN or user namespaces for `unshare --net`: {tried.stderr.strip()}")
    return wrapper


@pytest.mark.slow
def test_it_installs_without_network_and_a_failed_upgrade_changes_nothing(
    archive: Unpacked, tmp_path: Path
) -> None:
    leave_half(archive)
    done = archive.install(wrapper=without_network())
    assert done.returncode == 0, done.stderr
    assert "all as they were packed" in done.stdout
    assert f"Next: {archive.prefix}/current/README.txt" in done.stdout
    assert archive.installed() == "stream-server 1.0"
    there = {path.name for path in (archive.prefix / "current").iterdir()}
    assert {"licences", "sbom.cdx.json", "SHA256SUMS", "install.sh", "README.txt", "venv"} <= there

    again = archive.install()
    assert again.returncode == 0
    assert "is installed in" in again.stdout
    assert "nothing to do" in again.stdout

    newer = unpacked(tmp_path, "1.1")
    require_another_wheel(newer)
    failed = newer.install()
    assert failed.returncode == 1
    assert "pip failed" in failed.stderr
    assert archive.installed() == "stream-server 1.0"
    assert len(list((archive.prefix / "releases").iterdir())) == 1
    assert "no release before" in archive.install("--rollback").stderr


def leave_half(archive: Unpacked) -> None:
    """What an installation leaves that was cut off with the power."""
    digest = hashlib.sha256((archive.folder / "SHA256SUMS").read_bytes()).hexdigest()
    half = archive.prefix / "releases" / f"1.0-{digest[:8]}" / "venv" / "bin"
    half.mkdir(parents=True)
    (half / "python").write_text("half of it")


def require_another_wheel(archive: Unpacked) -> None:
    """Pack the archive anew so that its wheels are not those that pip is to install."""
    repack(archive, "requirements.txt", lambda text: text.replace("sha256:", "sha256:" + 64 * "0" + " # ", 1))


@pytest.mark.slow
def test_upgrade_keeps_what_is_not_ours_and_can_be_taken_back(archive: Unpacked, tmp_path: Path) -> None:
    state = archive.prefix / "state"
    state.mkdir(parents=True)
    (state / "ca.pem").write_text("theirs")
    assert archive.install().returncode == 0
    (archive.prefix / "releases" / "0.9-older").mkdir()
    newer = unpacked(tmp_path, "1.1")
    assert newer.install().returncode == 0
    assert newer.installed() == "stream-server 1.1"
    releases = sorted(path.name.partition("-")[0] for path in (archive.prefix / "releases").iterdir())
    assert releases == ["1.0", "1.1"]

    # The copy in the release knows its prefix.
    mine = archive.prefix / "current" / "install.sh"
    back = archive("--rollback", script=mine)
    assert back.returncode == 0, back.stderr
    assert archive.installed() == "stream-server 1.0"
    assert archive("--rollback", script=mine).returncode == 0
    assert archive.installed() == "stream-server 1.1"
    assert "this release is installed" in archive(script=mine).stderr

    gone = archive("--remove", script=mine)
    assert gone.returncode == 0, gone.stderr
    assert tree(archive.prefix) == {"state", "state/ca.pem"}
    assert (state / "ca.pem").read_text() == "theirs"


def change(folder: Path) -> None:
    path = folder / "licences" / "LIST.txt"
    path.write_bytes(path.read_bytes()[:-1] + b"!")


def change_wheel(folder: Path) -> None:
    path = folder / "wheels" / "helper-1.2-py3-none-any.whl"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def add_line_to_sums(folder: Path) -> None:
    with (folder / "SHA256SUMS").open("a") as sums:
        sums.write(f"{hashlib.sha256(b'').hexdigest()}  wheels/extra.whl\n")


def add_line_to_script(folder: Path) -> None:
    with (folder / "install.sh").open("a") as script:
        script.write("# harmless\n")


def break_sums(folder: Path) -> None:
    path = folder / "SHA256SUMS"
    path.write_text(path.read_text().replace("  README.txt", " README.txt"))


def replace_by_link(folder: Path) -> None:
    shutil.copy(folder / "README.txt", folder.parent / "elsewhere")
    (folder / "README.txt").unlink()
    (folder / "README.txt").symlink_to(folder.parent / "elsewhere")


@pytest.mark.parametrize(
    ("tamper", "told"),
    [
        (change, "changed: licences/LIST.txt"),
        (change_wheel, "changed: wheels/helper-1.2-py3-none-any.whl"),
        (lambda at: (at / "bundle.txt").unlink(), "missing: bundle.txt"),
        (lambda at: (at / "SHA256SUMS").unlink(), "missing: SHA256SUMS"),
        (lambda at: (at / "wheels" / "evil-1-py3-none-any.whl").touch(), "wheels/evil-1-py3-none-any.whl"),
        (lambda at: (at / ".hidden").touch(), "not in the archive: .hidden"),
        (lambda at: (at / "two\nlines").touch(), "not in the archive: lines two"),
        (add_line_to_sums, "missing: wheels/extra.whl"),
        (break_sums, "not in the archive: README.txt"),
        (replace_by_link, "not a plain file: ./README.txt"),
        (add_line_to_script, "changed: install.sh"),
    ],
)
def test_tampering_is_named_before_anything_is_installed(
    archive: Unpacked, tamper: Callable[[Path], object], told: str
) -> None:
    tamper(archive.folder)
    done = archive.install()
    assert done.returncode == 1
    assert told in done.stderr
    assert not archive.prefix.exists()
    assert archive("--check").returncode == 1


def test_checking_alone_installs_nothing(archive: Unpacked) -> None:
    done = archive.install("--check")
    assert (done.returncode, done.stderr) == (0, "")
    assert not archive.prefix.exists()


def test_the_printed_digest_tells_a_list_that_was_made_anew(archive: Unpacked) -> None:
    digest = hashlib.sha256((archive.folder / "SHA256SUMS").read_bytes()).hexdigest()
    assert archive("--check", "--sums", digest).returncode == 0
    change(archive.folder)
    subprocess.run(
        "sha256sum $(cut -c 67- SHA256SUMS) > new && mv new SHA256SUMS",
        shell=True,
        cwd=archive.folder,
        check=True,
    )
    assert archive("--check").returncode == 0
    told = archive("--check", "--sums", digest)
    assert told.returncode == 1
    assert "changed: SHA256SUMS" in told.stderr


def public(key: Ed25519PrivateKey, path: Path) -> Path:
    path.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return path


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl")
def test_a_signature_is_checked_where_a_key_is_given(tmp_path: Path) -> None:
    key = Ed25519PrivateKey.generate()
    archive = unpacked(tmp_path, key=key)
    ours, theirs = public(key, tmp_path / "a.pem"), public(Ed25519PrivateKey.generate(), tmp_path / "b.pem")
    good = archive("--check", "--key", ours)
    assert good.returncode == 0, good.stderr
    assert "signed with" in good.stdout
    assert "not signed with" in archive("--check", "--key", theirs).stderr
    assert "no such file" in archive("--check", "--key", tmp_path / "c.pem").stderr
    assert "--key PUBLIC.pem checks by whom" in archive("--check").stdout
    (archive.folder / "SHA256SUMS.sig").unlink()
    assert "not signed" in archive("--check", "--key", ours).stderr


def repack(archive: Unpacked, name: str, change_text: Callable[[str], str]) -> None:
    """Change a file and its line in the sums."""
    path, sums = archive.folder / name, archive.folder / "SHA256SUMS"
    before = hashlib.sha256(path.read_bytes()).hexdigest()
    path.write_text(change_text(path.read_text()))
    sums.write_text(sums.read_text().replace(before, hashlib.sha256(path.read_bytes()).hexdigest()))


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("machine", "s390x", "for Linux on s390x"),
        ("glibc", "9.99", "need glibc 9.99, this system has"),
        ("abi", "cpython-399", "no CPython 3."),
        ("disk_kb", str(10**13), "MB are needed"),
    ],
)
def test_a_machine_that_does_not_fit_is_told_why(archive: Unpacked, name: str, value: str, told: str) -> None:
    repack(archive, "bundle.txt", lambda text: re.sub(f"^{name}=.*$", f"{name}={value}", text, flags=re.M))
    done = archive.install()
    assert done.returncode == 1
    assert told in done.stderr
    assert not (archive.prefix / "current").exists()
    assert not (archive.prefix / "releases").exists() or not tree(archive.prefix / "releases")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--prefix",), "--prefix needs a value"),
        (("--wrong",), "unknown word --wrong"),
        (("--prefix", "/"), "the whole machine"),
        (("--prefix", "/a b"), "letters, digits"),
        (("--rollback",), "nothing is installed in"),
        (("--remove",), "nothing is installed in"),
        (("--python", "/bin/false"), "/bin/false is not CPython"),
    ],
)
def test_wrong_words_are_named(archive: Unpacked, words: tuple[str, ...], told: str) -> None:
    prefix = () if "--prefix" in words else ("--prefix", str(archive.prefix))
    done = archive(*prefix, *words)
    assert done.returncode == 1
    assert told in done.stderr


def test_two_installations_do_not_meet(archive: Unpacked) -> None:
    archive.prefix.mkdir()
    with subprocess.Popen(
        ["flock", str(archive.prefix / ".lock"), "sh", "-c", "echo locked; read line"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"locked\n"
        done = archive.install()
        other.communicate(b"\n")
    assert done.returncode == 1
    assert "another install.sh is at work" in done.stderr


def test_unpacking_needs_nothing_but_tar(archive: Unpacked) -> None:
    made = archive.folder.parent / "made.tar"
    with tarfile.open(made) as opened:
        assert all(info.isfile() for info in opened)
    listed = subprocess.run(["tar", "-tf", made], capture_output=True, text=True, check=True).stdout
    assert f"{archive.folder.name}/install.sh" in listed.splitlines()

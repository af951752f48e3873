"""A PKCS#11 token in software (SoftHSM), in a folder of its own."""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

PIN = "hsm-pin-8461"
MODULES = tuple(
    Path(folder, "softhsm", "libsofthsm2.so")
    for folder in ("/usr/lib", "/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64")
)
_MAKE_KEYS = """
import sys
import pkcs11
with pkcs11.lib(sys.argv[1]).get_token(token_label="models").open(rw=True, user_pin=sys.argv[2]) as session:
    for i, label in enumerate(("ours", "another", "twice", "twice")):
        session.generate_key(pkcs11.KeyType.AES, 256, store=True, label=label, id=bytes([i]))
"""


@dataclass(frozen=True, slots=True)
class SoftToken:
    """A token ``models`` with AES keys ``ours``, ``another``, and two ``twice``; and a file with its PIN."""

    module: Path
    pin: Path

    def uri(self, label: str = "ours", token: str = "models") -> str:
        return f"pkcs11:token={token};object={label}?module-path={self.module}&pin-source={self.pin}"


def make_soft_token(folder: Path) -> SoftToken:
    """Make one; the environment variable SOFTHSM2_CONF, which names it, is set for good."""
    module = next((path for path in MODULES if path.is_file()), None)
    if module is None or shutil.which("softhsm2-util") is None:
        pytest.skip("SoftHSM is not installed: apt-get install softhsm2")
    pytest.importorskip(
        "pkcs11", reason="python-pkcs11 is not installed: pip install 'stream-server[pkcs11]'"
    )
    (folder / "tokens").mkdir()
    (folder / "softhsm2.conf").write_text(f"directories.tokendir = {folder}/tokens\nlog.level = ERROR\n")
    os.environ["SOFTHSM2_CONF"] = str(folder / "softhsm2.conf")
    command = [
        "softhsm2-util",
        "--init-token",
        "--free",
        "--label",
        "models",
        "--pin",
        PIN,
        "--so-pin",
        "5678",
    ]
    subprocess.run(command, check=True, capture_output=True)
    subprocess.run([sys.executable, "-c", _MAKE_KEYS, module, PIN], check=True)
    pin = folder / "pin"
    pin.write_text(PIN + "\n")
    pin.chmod(0o600)
    return SoftToken(module, pin)

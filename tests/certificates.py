"""Certificates for the tests, made by openssl."""

import subprocess
from pathlib import Path
from typing import NamedTuple


class Signed(NamedTuple):
    """A certificate, and its private key."""

    certificate: Path
    key: Path


class Authority:
    """Signs certificates."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file = folder / "ca.pem"
        self._openssl(
            "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=ca",
            "-keyout", str(folder / "ca.key"), "-out", str(self.file),
        )  # fmt: skip

    def sign(self, name: str, subject: str, days: int = 2) -> Signed:
        """Give a certificate of that name, and its key; with `days` below 0 it has expired."""
        certificate, key, extra = (self.folder / f"{name}.{end}" for end in ("pem", "key", "ext"))
        extra.write_text(f"subjectAltName={subject}")
        request = self.folder / f"{name}.csr"
        self._openssl(
            "req",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-subj",
            f"/CN={name}",
            "-keyout",
            str(key),
            "-out",
            str(request),
        )
        self._openssl(
            "x509", "-req", "-in", str(request), "-CA", str(self.file), "-CAkey", str(self.folder / "ca.key"),
            "-CAcreateserial", "-days", str(days), "-extfile", str(extra), "-out", str(certificate),
        )  # fmt: skip
        return Signed(certificate, key)

    def _openssl(self, *arguments: str) -> None:
        subprocess.run(["openssl", *arguments], check=True, capture_output=True)

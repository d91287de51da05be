"""Wheels from the index that the user has configured, by the ordinary client. Nothing is installed, and no code of a package runs."""

import subprocess
import sys
from pathlib import Path

__all__ = ["download"]


def download(requirements: str, place: Path, *options: str) -> "subprocess.CompletedProcess[bytes]":
    """What pip said when it was asked for these lines of requirements, each with a digest; what came is in `place`."""
    wanted = place / "requirements"
    wanted.write_text(requirements)
    # Not a file of that name in the folder where somebody happens to be.
    command = [
        sys.executable,
        "-P",
        "-m",
        "pip",
        "download",
        "--quiet",
        "--no-deps",
        "--only-binary",
        ":all:",
    ]
    command += ["--no-cache-dir", "--require-hashes", "--disable-pip-version-check", "-r", str(wanted)]
    try:
        return subprocess.run([*command, "-d", str(place), *options], check=False, capture_output=True)  # noqa: S603 - our own interpreter, our own words
    finally:
        wanted.unlink(missing_ok=True)

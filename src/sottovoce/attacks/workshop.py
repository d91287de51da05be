"""What images are built of on this machine, and what boots them; or why it cannot be done here."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sottovoce.core.errors import SottovoceError
from sottovoce.image.lock import Lock
from sottovoce.image.packages import fetch
from sottovoce.image.wheels import fetch_wheels
from sottovoce.simulator.measure import code_root

__all__ = ["NO_WORKSHOP", "Workshop"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Workshop:
    """What images are built of.

    Attributes:
        project: the project's folder, with the lock file and the source.
        packages: the folder that keeps the packages of the lock.
        has_lock: whether the lock file is there.
        missing: why no image can be built here; nothing if one can.
        programs: the folder with the emulator's programs, if not on PATH.
        unbooted: why no image is booted here.
    """

    project: Path = Path()
    packages: Path = Path()
    has_lock: bool = False
    missing: str = ""
    programs: Path | None = None
    unbooted: str = ""

    @classmethod
    def here(cls, packages: Path, *, ask: bool) -> "Workshop":
        """That of this machine. What is not in the folder of packages is fetched, with `ask`."""
        project = code_root().parent
        try:
            lock = Lock.parse((project / "deploy/image.lock").read_bytes())
        except (OSError, SottovoceError):
            missing = "an image is built in the project's own folder"
            return cls(missing=missing, unbooted=missing)
        missing = "" if ask else _absent(lock, packages)
        try:
            if ask:
                for one in lock.packages:
                    fetch(one, packages)
                fetch_wheels(lock.wheels, packages)
        except SottovoceError as error:
            missing = str(error)
        return cls(
            project=project,
            packages=packages,
            has_lock=True,
            missing=missing,
            unbooted=missing or "--boot is not given",
        )

    @property
    def lock(self) -> Lock:
        """The lock file.

        Raises:
            LockError: it is not of its form.
        """
        return Lock.parse((self.project / "deploy/image.lock").read_bytes())


NO_WORKSHOP: Final = Workshop(missing="no image is built here", unbooted="no image is built here")


def _absent(lock: Lock, packages: Path) -> str:
    files = [f"{one.sha256}.deb" for one in lock.packages] + [one.file for one in lock.wheels]
    return "" if all((packages / name).exists() for name in files) else "the image's packages are not here"

"""Which collector this machine needs: what the kernel shows decides, and no setting.

    a provider of reports in configfs-tsm ─▶ that one      else the device /dev/sev-guest ─▶ that one
    else the socket of a simulated machine ─▶ simulated    else an error

Real hardware comes first, so no host can make a CVM on it use a simulated processor. The measured settings name the platform
too, and the boot stops when they name another one. Nothing rests on this choice: a verifier knows each kind by its root.
"""

import os
import socket
import stat

from sottovoce.core.errors import UnavailableError
from sottovoce.tee.collectors.base import PROCESSOR, Bundle, Collector
from sottovoce.tee.collectors.sev_guest import DEVICE, SevGuestCollector
from sottovoce.tee.collectors.simulated import HostChannel, SimulatedCollector
from sottovoce.tee.collectors.tsm import REPORTS, Files, TsmCollector, tsm_kind

__all__ = ["choose"]


def choose(
    channel: socket.socket | None, *, reports: str = REPORTS, device: str = DEVICE, files: Files | None = None
) -> Collector:
    """The collector of this machine. `channel` is the socket to the host, where it has given one.

    Raises:
        UnavailableError: the machine has no security processor that we know.
    """
    papers = HostChannel(channel).bundle if channel is not None else _no_papers
    if (kind := tsm_kind(root=reports, files=files)) is not None:
        return TsmCollector(papers, kind=kind, root=reports, files=files)
    if SevGuestCollector.present(device):
        return SevGuestCollector(papers, device=device)
    if channel is not None and stat.S_ISSOCK(os.fstat(channel.fileno()).st_mode):
        return SimulatedCollector(channel)
    raise UnavailableError(
        "this machine has no security processor",
        party=PROCESSOR,
        hint="start it as a confidential VM and load sev-guest or tdx-guest, or use the simulated machine",
    )


def _no_papers() -> Bundle:
    raise UnavailableError("the host gave no channel for its papers", party=PROCESSOR)

"""Reports through /dev/sev-guest (include/uapi/linux/sev-guest.h), for kernels without configfs-tsm.

snp_guest_request_ioctl  u8 msg_version ‖ 7 pad ‖ u64 req_data ‖ u64 resp_data ‖ u32 fw_error ‖ u32 vmm_error     32 bytes
snp_report_req           64 user_data ‖ u32 vmpl ‖ 28 zero                                                       96 bytes
snp_ext_report_req       snp_report_req ‖ u64 certs_address ‖ u32 certs_len ‖ 4 pad                             112 bytes
snp_report_resp          4,000 bytes: MSG_REPORT_RSP (AMD 56860 table 25)
                         u32 status ‖ u32 report_size ‖ 24 reserved ‖ report
"""

import contextlib
import ctypes
import errno
import fcntl
import os
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, Protocol

from sottovoce.attest.snp.layout import REPORT_SIZE
from sottovoce.core.errors import DecodeError, UnavailableError
from sottovoce.tee.collectors.base import PROCESSOR, REPORT_DATA, Bundle, check_report_data
from sottovoce.tee.collectors.certificates import parse_table, with_certificates

__all__ = ["DEVICE", "SNP_GET_EXT_REPORT", "SNP_GET_REPORT", "Ioctl", "SevGuestCollector"]

DEVICE: Final = "/dev/sev-guest"
REQUEST: Final = struct.Struct("<B7xQQII")
REPORT_REQUEST: Final = struct.Struct("<64sI28x")
EXTENDED_REQUEST: Final = struct.Struct("<64sI28xQI4x")
ANSWER: Final = 4000
ANSWER_HEAD: Final = struct.Struct("<II24x")
_MESSAGE_VERSION: Final = 1


def _iowr(kind: str, number: int, size: int) -> int:
    # asm-generic/ioctl.h: direction (3: both ways) 2 bits ‖ size 14 ‖ type 8 ‖ number 8
    return 3 << 30 | size << 16 | ord(kind) << 8 | number


SNP_GET_REPORT: Final = _iowr("S", 0, REQUEST.size)
SNP_GET_EXT_REPORT: Final = _iowr("S", 2, REQUEST.size)

VMM_INVALID_LENGTH, VMM_BUSY = 1, 2
_PAGE: Final = 4096
_CERTIFICATES: Final = 2 * _PAGE
"""VCEK, ASK and ARK fit; the kernel says how much it needs where they do not."""
_CERTIFICATES_MAX: Final = 4 * _PAGE
"""SEV_FW_BLOB_MAX_SIZE of include/linux/psp-sev.h: the kernel refuses more."""
_ATTEMPTS: Final = 8
_PAUSE: Final = 0.01
"""Seconds between attempts. The driver itself has waited up to a minute for a host that throttles."""
_TRANSIENT: Final = frozenset({errno.EINTR, errno.EAGAIN, errno.EBUSY})
_WHAT_TO_DO: Final = {
    errno.ENOENT: "load the module sev-guest",
    errno.ENODEV: "this machine is not an SNP guest",
    errno.ENXIO: "this machine is not an SNP guest",
    errno.EACCES: "only the CVM's first process, as root, may ask for reports",
    errno.EPERM: "only the CVM's first process, as root, may ask for reports",
    errno.ENOTTY: "the kernel disabled the guest's message key after a failure; start the CVM again",
    errno.EINVAL: "the kernel refused the request; a VMPL below the guest's own is one cause",
    errno.ETIMEDOUT: "the host throttles requests for reports",
}


class Ioctl(Protocol):
    """`fcntl.ioctl` on a buffer that the kernel changes, also when it fails."""

    def __call__(self, fd: int, request: int, buffer: bytearray, /) -> object:
        """Raises OSError as the system call does."""


class SevGuestCollector:
    """Reports from the device; `papers` asks the host for the rest. `vmpl` is the level that the report names, 0 to 3."""

    kind = "sev-snp"

    def __init__(
        self,
        papers: Callable[[], Bundle],
        *,
        vmpl: int = 0,
        device: str = DEVICE,
        ioctl: Ioctl = fcntl.ioctl,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._papers = papers
        self._vmpl = vmpl
        self._device = device
        self._ioctl = ioctl
        self._sleep = sleep

    def report(self, report_data: bytes) -> bytes:
        """A report over 64 bytes: 1,184 bytes.

        Raises:
            UnavailableError: the device gives none; the hint says what to do.
            DecodeError: what it gives is not a report.
        """
        request = REPORT_REQUEST.pack(check_report_data(report_data), self._vmpl)
        with self._open() as fd:
            error, answer, _ = self._patiently(fd, SNP_GET_REPORT, request)
        if error:
            raise _failed(error)
        return _report(answer)

    def bundle(self) -> Bundle:
        """The host's papers, with the certificates that it keeps for its guests.

        Raises:
            UnavailableError: the device or the host does not answer.
            DecodeError: the papers or the certificates are malformed.
        """
        bundle = self._papers()
        return with_certificates(bundle, parse_table(self._certificates()))

    def _certificates(self) -> bytes:
        length = _CERTIFICATES
        with self._open() as fd:
            while True:
                room = ctypes.create_string_buffer(length)
                request = EXTENDED_REQUEST.pack(
                    bytes(REPORT_DATA), self._vmpl, ctypes.addressof(room), length
                )
                error, answer, changed = self._patiently(fd, SNP_GET_EXT_REPORT, request)
                if error != VMM_INVALID_LENGTH:
                    break
                wanted = EXTENDED_REQUEST.unpack(changed)[3]
                if not length < wanted <= _CERTIFICATES_MAX:
                    raise DecodeError("the host's certificates have a length that cannot be")
                length = -(-wanted // _PAGE) * _PAGE
        if error:
            raise _failed(error)
        _report(answer)
        return room.raw if any(room.raw) else b""  # a host without certificates leaves the buffer as it was

    def _patiently(self, fd: int, request: int, data: bytes) -> tuple[int, bytes, bytes]:
        """VMM error (BUSY never) ‖ answer ‖ the request as the kernel left it."""
        for attempt in range(_ATTEMPTS):
            if attempt:
                self._sleep(_PAUSE)
            try:
                vmm_error, answer, changed = self._once(fd, request, data)
            except OSError as error:
                if error.errno not in _TRANSIENT:
                    raise _unavailable(error) from None
                continue
            if vmm_error != VMM_BUSY:
                return vmm_error, answer, changed
        raise UnavailableError(
            "the host is too busy for a report", party=PROCESSOR, hint=_WHAT_TO_DO[errno.ETIMEDOUT]
        )

    def _once(self, fd: int, request: int, data: bytes) -> tuple[int, bytes, bytes]:
        asked, answer = ctypes.create_string_buffer(data, len(data)), ctypes.create_string_buffer(ANSWER)
        pointers = ctypes.addressof(asked), ctypes.addressof(answer)
        buffer = bytearray(REQUEST.pack(_MESSAGE_VERSION, *pointers, 0, 0))
        failure: OSError | None = None
        try:
            self._ioctl(fd, request, buffer)
        except OSError as error:
            failure = error
        *_, fw_error, vmm_error = REQUEST.unpack(buffer)
        if vmm_error and not (failure and failure.errno == errno.ETIMEDOUT):
            # The kernel gives EIO or EAGAIN along, by version; this says more.
            return vmm_error, b"", asked.raw
        if failure is not None:
            # The driver sets 0xff before it asks the firmware, so only another value is the firmware's.
            if fw_error not in {0, _NOT_ASKED}:
                raise _refused(fw_error)
            raise failure
        if fw_error:
            raise _refused(fw_error)
        return 0, answer.raw, asked.raw

    @contextlib.contextmanager
    def _open(self) -> Iterator[int]:
        try:
            fd = os.open(self._device, os.O_RDWR | os.O_CLOEXEC)
        except OSError as error:
            raise _unavailable(error) from None
        try:
            yield fd
        finally:
            os.close(fd)

    @staticmethod
    def present(device: str = DEVICE) -> bool:
        """Whether this machine has the device; the driver makes it on SNP guests only."""
        return Path(device).is_char_device() and os.access(device, os.R_OK | os.W_OK)


_NOT_ASKED: Final = 0xFF


def _report(answer: bytes) -> bytes:
    status, size = ANSWER_HEAD.unpack_from(answer)
    if status:
        raise _refused(status)
    if size != REPORT_SIZE:
        raise DecodeError("the device gave a report of another size")
    return answer[ANSWER_HEAD.size : ANSWER_HEAD.size + size]


def _refused(status: int) -> UnavailableError:
    # SEV_RET_* of include/uapi/linux/psp-sev.h
    return UnavailableError(
        f"the security processor refused the report (status {status:#x})", party=PROCESSOR
    )


def _failed(vmm_error: int) -> UnavailableError:
    return UnavailableError(f"the hypervisor refused the report (error {vmm_error:#x})", party=PROCESSOR)


def _unavailable(error: OSError) -> UnavailableError:
    number = error.errno or 0
    return UnavailableError(
        f"the device gives no report ({errno.errorcode.get(number, 'unknown')})",
        party=PROCESSOR,
        hint=_WHAT_TO_DO.get(number, ""),
    )

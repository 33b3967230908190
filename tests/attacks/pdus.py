"""PDUs of iSCSI (RFC 7143 11), right and wrong, in a session that is logged in."""

from __future__ import annotations

import struct

from tests.iscsi import RawInitiator


def header(
    opcode: int, flags: int, size: int, lun: bytes, tag: int, third: int, command: int,
    status: int, rest: bytes = bytes(16),
) -> bytes:  # fmt: skip
    """Return the 48 bytes that every PDU begins with (RFC 7143 11.2).

    Args:
        opcode: 0x40 added for an immediate one.
        flags: the byte after it.
        size: of the data segment, or what it says of it.
        lun: eight bytes.
        tag: of the task.
        third: what comes after it: expected length, or the target's tag.
        command: CmdSN.
        status: ExpStatSN.
        rest: 16 bytes.
    """
    return struct.pack(
        ">BBHI8sIIII16s", opcode, flags, 0, size & 0xFFFFFF, lun, tag, third, command, status, rest
    )


class Sender(RawInitiator):
    """Sends commands of its own making; the answers are read if somebody wants them."""

    @property
    def session(self) -> bytes:
        """ISID and TSIH of a login, as its header has them."""
        return b"\x80" + self.isid.to_bytes(5, "big") + bytes(2)

    @property
    def lun(self) -> bytes:
        """The disk's, as a header has it."""
        return bytes([0, self.export.lun, *bytes(6)])

    @property
    def sequence(self) -> int:
        """The next CmdSN."""
        return self._sequence

    def command(
        self, cdb: bytes, *, flags: int = 0xC0, expected: int = 0, data: bytes = b"", tag: int = 0
    ) -> None:
        """Send a SCSI command (RFC 7143 11.3).

        Args:
            cdb: the command, filled up to 16 bytes.
            flags: 0x80 final, 0x40 it reads, 0x20 it writes.
            expected: length of the data that it says it moves.
            data: immediate data, whatever is expected.
            tag: of the task; by default the next number.
        """
        self._sequence += 1
        head = header(
            0x01, flags, len(data), self.lun, tag or self._sequence, expected,
            self._sequence - 1, 1, cdb.ljust(16, b"\0"),
        )  # fmt: skip
        self.socket.sendall(head + data + bytes(-len(data) % 4))

    def answer(self) -> tuple[bytes, bytes]:
        """Return the header and the data of the next PDU that comes."""
        head = self._receive(48)
        size = int.from_bytes(head[5:8], "big")
        return head, self._receive((size + 3) // 4 * 4)[:size]

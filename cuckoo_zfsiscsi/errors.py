"""One small error tree. Each error says what is wrong, where, and how to fix it."""

from __future__ import annotations


class ZfsIscsiError(Exception):
    """Anything that a user can be told in one line.

    Args:
        what: what is wrong and where, without a full stop.
        fix: what to do next, best a command to type.
    """

    status: int = 500
    """HTTP status of the control API's answer."""

    def __init__(self, what: str, *, fix: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.fix = fix

    @property
    def lines(self) -> tuple[str, ...]:
        """What is wrong, line by line. Almost always one: whatever else is in it is no new line."""
        return (self.what,)

    def __str__(self) -> str:
        return f"{self.what} (fix: {self.fix})" if self.fix else self.what


class DeadlineExceededError(ZfsIscsiError):
    """An operation was not done when its time was up."""

    status = 504


class CancelledError(ZfsIscsiError):
    """An operation was given up because someone asked for that."""

    status = 409


class ConfigError(ZfsIscsiError):
    """zfsiscsi.conf can't be used as it is."""


class UnknownHostError(ZfsIscsiError):
    """No host has this label."""

    status = 404


class HostBusyError(ZfsIscsiError):
    """The host's state does not allow what was asked."""

    status = 409


class QuarantinedError(ZfsIscsiError):
    """The host is fenced and off until a full reset-and-boot succeeds."""

    status = 503


class DiskError(ZfsIscsiError):
    """The store can't do what was asked."""


class ImageError(DiskError):
    """An image is missing, damaged, not sealed or in use."""

    status = 409


class StoreFullError(DiskError):
    """The store has no space left."""

    status = 507


class UnprovenDiskError(DiskError):
    """A disk can't be proven clean: it must not boot."""


class TargetError(ZfsIscsiError):
    """The iSCSI target did not do what was asked."""


class NetbootError(ZfsIscsiError):
    """DHCP, TFTP or the boot listener can't work."""


class ServeError(ZfsIscsiError):
    """The service can't listen where it should."""


class PowerError(ZfsIscsiError):
    """Power could not be switched, or not proved to be."""

    status = 502


class TransientPowerError(PowerError):
    """A power failure that is known to go away when asked again."""


class RefusedPowerError(PowerError):
    """A power device refuses the user or the password: asking again may lock the account."""


class NotOffError(PowerError):
    """A host shows that it lives though its power was proved off: its power device lies."""


class NotReadyError(ZfsIscsiError):
    """A host did not become ready."""

    status = 504


class VoidBootError(ZfsIscsiError):
    """A boot may not have been its host's alone: its disk is not trusted, however it looks."""

    status = 503


class BootRefusedError(ZfsIscsiError):
    """Whoever asked for a boot script gets none: that is no new boot of the host."""

    status = 409


class LabError(ZfsIscsiError):
    """The lab can't be built, or a part of it did not do what it must."""


class CompareError(ZfsIscsiError):
    """A comparison can't begin, or can't go on for now."""


class PluginError(ZfsIscsiError):
    """The plugin for a sandbox can't be had, or not be installed."""

    status = 404

"""The connections that this server's kernel tracks for a host, and an end to them (conntrack(8)).

CAPE's rooter lets through what is established, whatever the run's route. A connection of the last
run would be the next one's, too, for as long as somebody outside keeps it alive.
"""

from __future__ import annotations

import subprocess
from ipaddress import IPv4Address

from cuckoo_zfsiscsi.config import HostConfig
from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.environment import for_child
from cuckoo_zfsiscsi.errors import DeadlineExceededError, NetbootError
from cuckoo_zfsiscsi.netboot.address import own_addresses

PROGRAM = "conntrack"
INSTALL = "apt install conntrack"
NONE = "0 flow entries have been deleted"
"""Said with an exit status of 1, as for an error."""
EXPIRED = "such conntrack doesn't exist"
"""Before 1.4.7 conntrack ends at an entry that expires before its turn comes."""


def delete(host: HostConfig, gateway: IPv4Address | None, deadline: Deadline) -> str:
    """Delete the flows that a host began, and those towards it. It is off, or they come back.

    Args:
        host: whose they are.
        gateway: by which its system leaves its network; None: it does not.
        deadline: for all of it.

    Returns:
        What went wrong, with the cure, or nothing. If the gateway is another server nothing is
        wrong: here is no flow to be kept alive.

    Raises:
        CancelledError: given up.
    """
    try:
        for which in ("--orig-src", "--reply-src"):
            _delete((PROGRAM, "-D", "-f", "ipv4", which, str(host.ip)), deadline)
    except (NetbootError, DeadlineExceededError) as error:
        if _is_own(gateway):
            fix = error.fix or f"{PROGRAM} -D -s {host.ip}"
            return (
                f"connections of {host.label}'s last run may go on in the next: {error.what} "
                f"(fix: {fix})"
            )
    return ""


def _delete(argv: tuple[str, ...], deadline: Deadline) -> None:
    command = " ".join(argv)
    while True:
        deadline.check(command)
        try:
            done = subprocess.run(
                argv,
                env=for_child(),
                check=False,
                stdout=subprocess.DEVNULL,  # each flow: a guest can have made very many
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
                timeout=deadline.remaining,
            )
        except OSError as error:
            raise NetbootError(f"can't run {PROGRAM}: {error.strerror}", fix=INSTALL) from None
        except subprocess.TimeoutExpired:
            deadline.check(command)
            raise NetbootError(f"{command} does not end") from None
        if not done.returncode or NONE in done.stderr:
            return
        if EXPIRED not in done.stderr:
            raise NetbootError(f"{command}: {done.stderr.strip()[-200:]}")


def _is_own(gateway: IPv4Address | None) -> bool:
    """Whether it is this server; what can't be found out is."""
    if gateway is None:
        return False
    try:
        return gateway in own_addresses()
    except NetbootError:
        return True

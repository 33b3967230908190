"""Why ipmitool failed, from what it printed: its exit code is 1 for everything (1.8.19)."""

from __future__ import annotations

import re
from dataclasses import dataclass

from cuckoo_zfsiscsi.errors import PowerError, RefusedPowerError, TransientPowerError
from cuckoo_zfsiscsi.power.child import Outcome

NOISE = re.compile(
    r"Loading IANA|IANA PEN|Running Get|Discovered IPMB|Invalid completion code received"
    r"|Get HPM\.x|Unable to Get Channel Cipher Suites|Using best available|Close Session"
)
"""Lines that -v prints when all is well, too."""


@dataclass(frozen=True, slots=True)
class _Failure:
    pattern: str
    what: str
    fix: str = ""
    kind: type[PowerError] = PowerError


_SILENT = "try: ping it; is IPMI over LAN on in it, is UDP 623 open between it and here?"

FAILURES = (
    _Failure(
        r"insufficient resources|inactive session ID|invalid session ID|Node busy|: Timeout"
        r"|Out of space|initialization in progress|in update mode|Destination unavailable",
        "the BMC is busy",
        "reset the BMC if this stays: ipmitool mc reset cold",
        TransientPowerError,
    ),
    _Failure(
        r"RAKP 2 HMAC is invalid|unauthorized name|invalid username length|user name too long"
        r"|invalid integrity check value|illegal (or unrecognized )?parameter",
        "the BMC refuses the user or the password",
        "check user and password: ipmitool -I lanplus -H BMC -U USER -a chassis power status",
        RefusedPowerError,
    ),
    _Failure(
        r"invalid (authentication|integrity|confidentiality) algorithm|no cipher suite match"
        r"|no matching (authentication|integrity) payload|is not what we requested",
        "the BMC does not support the cipher suite",
        "add ?cipher=3 (or 17) to the power URL",
    ),
    _Failure(
        r"Insufficient privilege|unauthorized role|invalid role"
        r"|Set Session Privilege Level to \w+ failed:",
        "the BMC does not let this user switch power",
        "give the user operator privilege in the BMC, or add ?level=operator to the power URL",
    ),
    _Failure(  # a BMC that is starting says so, too: seen of ipmi_sim
        r"does not support IPMI v2",
        "the BMC has no IPMI 2.0",
        "use another power driver for it",
        TransientPowerError,
    ),
    _Failure(
        r"Address lookup for", "no address is known for the BMC", "check the name in the power URL"
    ),
    _Failure(
        r"Could not open socket|Get Auth Capabilities error|no response from RAKP|Unexpected"
        r"|Unable to (get|set) Chassis Power"
        # Without a reason behind it: the answer was lost.
        r"|(?m:Set Session Privilege Level to \w+ failed$)",
        "the BMC does not answer",
        _SILENT,
        TransientPowerError,
    ),
    # Nothing but this line: it answered at first and then no more.
    _Failure(
        r"\AError: Unable to establish.*\Z",
        "the BMC gives no session",
        _SILENT,
        TransientPowerError,
    ),
)
"""The first that fits."""


def classify(what: str, outcome: Outcome, secret: str) -> PowerError:
    """Return the error for a failed command; transient only when known to be so.

    Args:
        what: BMC, user and command.
        outcome: of ipmitool.
        secret: never to be seen in the error, whatever ipmitool printed.
    """
    if outcome.code < 0:
        return PowerError(f"{what}: ipmitool was killed by signal {-outcome.code}")
    lines = (outcome.stdout + "\n" + outcome.stderr).splitlines()
    text = "\n".join(line.strip() for line in lines if line.strip() and not NOISE.search(line))
    for failure in FAILURES:
        if re.search(failure.pattern, text):
            return failure.kind(f"{what}: {failure.what}", fix=failure.fix)
    said = text.replace(secret, "***").splitlines()[-1:] or ["nothing"]
    return PowerError(
        f"{what}: ipmitool ended with {outcome.code} and said {said[0][:200]!r}",
        fix="reset the BMC if this stays: ipmitool mc reset cold",
    )

"""What ipmitool 1.8.19 prints for each failure, and what we make of it."""

from __future__ import annotations

import pytest

from cuckoo_zfsiscsi.errors import TransientPowerError
from cuckoo_zfsiscsi.power.child import Outcome
from cuckoo_zfsiscsi.power.ipmi_failure import classify

NO_SESSION = "Error: Unable to establish IPMI v2 / RMCP+ session\n"
OPEN = "Error in open session response message : "
RAKP = "RAKP 2 message indicates an error : "


@pytest.mark.parametrize(
    ("stderr", "what", "transient"),
    [
        ("> RAKP 2 HMAC is invalid\n" + NO_SESSION, "the user or the password", False),
        (RAKP + "unauthorized name\n" + NO_SESSION, "the user or the password", False),
        # A BMC that was slow at first and then said no: asking again might lock the account.
        (
            "> Error: no response from RAKP 1 message\n> RAKP 2 HMAC is invalid\n" + NO_SESSION,
            "the user or the password",
            False,
        ),
        (OPEN + "invalid authentication algorithm\n\n" + NO_SESSION, "cipher suite", False),
        (
            OPEN + "no cipher suite match with proposed security algorithms\n" + NO_SESSION,
            "cipher suite",
            False,
        ),
        ("Encryption algorithm 0x01 is not what we requested 0x02\n", "cipher suite", False),
        (
            RAKP + "unauthorized role or privilege level requested\n" + NO_SESSION,
            "let this user",
            False,
        ),
        (
            "Set Chassis Power Control to Down/Off failed: Insufficient privilege level\n",
            "let this user",
            False,
        ),
        (
            "Set Session Privilege Level to ADMINISTRATOR failed\n" + NO_SESSION,
            "does not answer",
            True,
        ),
        (
            "Set Session Privilege Level to ADMINISTRATOR failed: Unknown (0x81)\n",
            "let this",
            False,
        ),
        ("This BMC does not support IPMI v2 / RMCP+\n" + NO_SESSION, "no IPMI 2.0", True),
        (
            "Address lookup for bmc1 failed\nCould not open socket!\n" + NO_SESSION,
            "no address is known",
            False,
        ),
        (OPEN + "insufficient resources for session\n\n" + NO_SESSION, "busy", True),
        (RAKP + "inactive session ID\n" + NO_SESSION, "busy", True),
        ("Get Chassis Power Status failed: Node busy\n", "busy", True),
        ("Set Chassis Power Control to Up/On failed: Timeout\n", "busy", True),
        (
            "Get Chassis Power Status failed: BMC initialization in progress\n",
            "busy",
            True,
        ),
        ("Could not open socket!\n" + NO_SESSION, "does not answer", True),
        (
            "Get Auth Capabilities error\nError issuing Get Channel Authentication Capabilities "
            "request\n" + NO_SESSION,
            "does not answer",
            True,
        ),
        ("> Error: no response from RAKP 3 message\n" + NO_SESSION, "does not answer", True),
        ("Error: Received an Unexpected RAKP 2 message\n" + NO_SESSION, "does not answer", True),
        ("Unable to get Chassis Power Status\n", "does not answer", True),
        (
            "Loading IANA PEN Registry...\nUnable to Get Channel Cipher Suites\n" + NO_SESSION,
            "no session",
            True,
        ),
        ("Get Chassis Power Status failed: Unspecified error\n", "Unspecified error", False),
        (
            "Invalid completion code received: Insufficient privilege level\nGarbage\n",
            "'Garbage'",
            False,
        ),
        ("", "said 'nothing'", False),
    ],
)
def test_failure(stderr: str, what: str, transient: bool) -> None:
    error = classify("bmc1 as admin: chassis power off", Outcome(1, "", stderr), "secret")
    assert what in error.what
    assert error.what.startswith("bmc1 as admin: chassis power off: ")
    assert error.fix
    assert isinstance(error, TransientPowerError) is transient


def test_whatever_it_prints_the_secret_is_not_told() -> None:
    outcome = Outcome(1, "", "bad thing: secret " + "x" * 900)
    error = classify("bmc1", outcome, "secret")
    assert "secret" not in str(error)
    assert "bad thing: ***" in error.what
    assert len(error.what) < 300


def test_killed_by_someone_else() -> None:
    error = classify("bmc1", Outcome(-9, "", NO_SESSION), "secret")
    assert "killed by signal 9" in error.what
    assert not isinstance(error, TransientPowerError)

"""Why a Redfish command failed, and whether it is known to go away."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from requests import exceptions as http
from sushy import exceptions as sushy

from cuckoo_zfsiscsi.errors import PowerError, RefusedPowerError, TransientPowerError
from cuckoo_zfsiscsi.power.redfish_http import BusyError, fingerprint_of

if TYPE_CHECKING:
    from cuckoo_zfsiscsi.power.redfish import Redfish

_SILENT = "try: ping it; is Redfish switched on in it, is its TCP port open between it and here?"


def classify(what: str, error: Exception, driver: Redfish) -> PowerError:
    """Return the error for a failed command; transient only when known to be so.

    Args:
        what: BMC, user and command.
        error: of sushy, or of what it makes of an answer that is not Redfish.
        driver: whose command it was.
    """
    cause = error.__cause__
    if isinstance(error, BusyError):
        return TransientPowerError(
            f"{what}: the BMC is busy ({error})", fix="raise power_interval if this stays"
        )
    if isinstance(cause, http.SSLError):
        return _certificate(what, driver)
    if isinstance(cause, (http.ConnectionError, http.Timeout, http.ChunkedEncodingError)):
        return TransientPowerError(f"{what}: the BMC does not answer", fix=_SILENT)
    if isinstance(error, sushy.AccessError):
        return RefusedPowerError(
            f"{what}: the BMC refuses the user or the password (HTTP {error.status_code})",
            fix="check user and password in the BMC's own web page; the user needs the role "
            "Operator",
        )
    if isinstance(error, sushy.ServerSideError):
        return TransientPowerError(
            f"{what}: the BMC has a fault of its own (HTTP {error.status_code})",
            fix="reset the BMC if this stays",
        )
    if isinstance(error, sushy.ResourceNotFoundError):
        return PowerError(
            f"{what}: the BMC knows no such system",
            fix=f"see https://{driver.host}/redfish/v1/Systems, and add ?system=ID to the URL",
        )
    if isinstance(error, sushy.UnknownDefaultError):
        ids = re.sub(r".*: ", "", str(error))
        return PowerError(
            f"{what}: the BMC has none or several systems: {ids or 'none'}",
            fix="add ?system=ID to the power URL",
        )
    return PowerError(
        f"{what}: the answer is not understood: {type(error).__name__}: {str(error)[:160]}",
        fix="does a newer firmware of the BMC help? else use another driver",
    )


def _certificate(what: str, driver: Redfish) -> PowerError:
    if shown := fingerprint_of(driver.host, driver.port):
        fix = f"compare with the BMC's own page, then add ?fingerprint={shown} to the power URL"
    else:
        fix = "does the port speak TLS?"
    return PowerError(f"{what}: the BMC's certificate is not trusted", fix=fix)

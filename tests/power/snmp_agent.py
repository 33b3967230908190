"""An SNMP v1 agent with one writable integer, for a PDU: python snmp_agent.py PORT OID FILE.

The value lives in FILE. Whoever uses another community than "private" is not answered.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from pysnmp.carrier.asyncio.dgram import udp
from pysnmp.entity import config, engine
from pysnmp.entity.rfc3413 import cmdrsp, context
from pysnmp.proto.api import v2c
from pysnmp.smi import instrum


class Outlet(instrum.AbstractMibInstrumController):  # type: ignore[misc]  # without types
    """Reads and writes FILE, whatever is asked for below OID."""

    def __init__(self, oid: str, file: Path) -> None:
        self._oid = v2c.ObjectIdentifier(oid)
        self._file = file

    def read_variables(self, *pairs: Any, **_context: Any) -> list[Any]:
        return [(oid, self._value(oid)) for oid, _ in pairs]

    def write_variables(self, *pairs: Any, **_context: Any) -> list[Any]:
        for oid, value in pairs:
            if oid == self._oid:
                self._file.write_text(str(int(value)))
        return list(pairs)

    def _value(self, oid: Any) -> Any:
        if oid != self._oid:
            return v2c.NoSuchInstance()
        return v2c.Integer(int(self._file.read_text()))


def main(port: int, oid: str, file: Path) -> None:
    agent = engine.SnmpEngine()
    transport = udp.UdpAsyncioTransport().open_server_mode(("127.0.0.1", port))
    config.add_transport(agent, udp.DOMAIN_NAME, transport)
    config.add_v1_system(agent, "area", "private")
    for write in ((), (1, 3, 6)):
        config.add_vacm_user(agent, 1, "area", "noAuthNoPriv", (1, 3, 6), write)
    served = context.SnmpContext(agent)
    served.unregister_context_name(v2c.OctetString(""))
    served.register_context_name(v2c.OctetString(""), Outlet(oid, file))
    cmdrsp.GetCommandResponder(agent, served)
    cmdrsp.SetCommandResponder(agent, served)
    agent.transport_dispatcher.job_started(1)
    agent.open_dispatcher()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))

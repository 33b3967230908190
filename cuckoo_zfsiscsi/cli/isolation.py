"""zfsiscsi netboot isolation: two hosts or more prove that they cannot reach each other."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from cuckoo_zfsiscsi.cli.hosts import make_client
from cuckoo_zfsiscsi.cli.output import JsonOption, conf_path, print_json, stderr, stdout, styled
from cuckoo_zfsiscsi.config import load
from cuckoo_zfsiscsi.errors import NotReadyError
from cuckoo_zfsiscsi.isolation import TASK, TIMEOUT

if TYPE_CHECKING:
    from cuckoo_zfsiscsi.cape.client import Client
    from cuckoo_zfsiscsi.config import Config

STYLES = {"isolated": "green", "not isolated": "red", "not known": "yellow"}


def isolation(
    ctx: typer.Context,
    network: Annotated[
        str | None, typer.Option(help="This one; all with two hosts or more if left out.")
    ] = None,
    show: Annotated[bool, typer.Option("--show", help="Boot nothing, show what is known.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Have the hosts of a network prove that they cannot reach each other.

    Boots every host of it that is free, from a clean disk, has each guest reach for all others
    through CAPE's agent (TCP, ARP) and for this server, and stops them again. What comes of it
    stays on record: zfsiscsi check, the dashboard and /metrics tell it. A host alone in its network
    is isolated without a try.

    Ends with 0 if every network is isolated, else with 1.

      zfsiscsi netboot isolation                    # after each change of the switch
      zfsiscsi netboot isolation --network vlan20
      zfsiscsi netboot isolation --show
    """
    config = load(conf_path(ctx))
    client = make_client(config)
    if not show:
        for net in _chosen(client, network):
            if len(net["hosts"]) > 1:
                _prove(client, config, net)
    found = _chosen(client, network)
    if as_json:
        print_json(found)
    else:
        stdout.print(_table(found))
    if any(net["state"] != "isolated" for net in found):
        raise typer.Exit(1)


def _chosen(client: Client, network: str | None) -> list[dict[str, Any]]:
    found = client.networks()
    if network is None:
        return found
    chosen = [net for net in found if net["network"] == network]
    if not chosen:
        names = ", ".join(net["network"] for net in found)
        raise typer.BadParameter(f"no network with hosts is called {network}; there are: {names}")
    return chosen


def _prove(client: Client, config: Config, net: dict[str, Any]) -> None:
    """Boot, try, stop. What was begun is stopped, whatever comes.

    Raises:
        NotReadyError: fewer than two hosts can be had.
    """
    seconds = config.zfsiscsi.start_timeout
    free = {
        host["label"]
        for host in client.hosts()
        if not host["run"] and host["state"] not in ("quarantined", "maintenance")
    }
    labels = [label for label in net["hosts"] if label in free]
    if missing := [label for label in net["hosts"] if label not in free]:
        stderr.print(f"not free, and left out: {', '.join(missing)}", style="yellow")
    if len(labels) < 2:
        raise NotReadyError(
            f"network {net['network']}: two free hosts are needed", fix="zfsiscsi hosts"
        )
    with (
        ThreadPoolExecutor(len(labels)) as pool,
        stderr.status(f"booting {', '.join(labels)}", spinner="line") as status,
    ):
        starts = {label: pool.submit(client.start, label, seconds, TASK) for label in labels}
        try:
            for start in starts.values():
                start.result()
            status.update("the guests try to reach each other")
            client.prove_isolation(net["network"], labels, TIMEOUT)
        finally:
            status.update("stopping")
            # A start that has failed is none of ours to stop; one that goes on is ended by it
            begun = [
                one for one, start in starts.items() if not start.done() or not start.exception()
            ]
            list(pool.map(partial(client.stop, timeout=config.zfsiscsi.stop_timeout), begun))


def _table(networks: list[dict[str, Any]]) -> Table:
    table = Table("network", "hosts", "", "why")
    for net in networks:
        state = styled(net["state"], STYLES.get(net["state"], "default"))
        table.add_row(net["network"], str(len(net["hosts"])), state, net["why"])
    return table

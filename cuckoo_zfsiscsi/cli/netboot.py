"""zfsiscsi netboot: what a DHCP server and the firewall are told, found right by themselves."""

from __future__ import annotations

from dataclasses import asdict
from enum import Enum
from typing import TYPE_CHECKING, Annotated

import typer

from cuckoo_zfsiscsi.cli.isolation import isolation
from cuckoo_zfsiscsi.cli.output import JsonOption, conf_path, print_json, stderr
from cuckoo_zfsiscsi.config import load
from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.errors import NetbootError

if TYPE_CHECKING:
    from cuckoo_zfsiscsi.netboot.site import Rendered

TIMEOUT = 30.0
"""Seconds."""


class SiteServer(str, Enum):
    """Kinds of DHCP servers that a site may have."""

    DNSMASQ = "dnsmasq"
    ISC = "isc"
    KEA = "kea"
    WINDOWS = "windows"


def register(app: typer.Typer) -> None:
    """Add the group."""
    group = typer.Typer(help="From power-on to the boot script.", no_args_is_help=True)
    app.add_typer(group, name="netboot")
    group.callback()(_group)
    group.command()(render)
    group.command()(firewall)
    group.command()(isolation)


def _group() -> None:
    """From power-on to the boot script: see docs/netboot.rst."""


def render(
    ctx: typer.Context,
    server: Annotated[
        SiteServer | None,
        typer.Option(
            help="Print the lines to add to a DHCP server of the site's own, of this kind: for "
            "dhcp = external."
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Print the configuration of the DHCP server that the service runs, or lines for another.

    It is printed only if the server's own checker (dnsmasq --test, dhcpd -t, kea-dhcp4 -t) finds it
    right. Where that is not installed, and for Windows, a warning says that it was not checked.

      zfsiscsi netboot render                    # as the service runs it
      zfsiscsi netboot render --server windows   # for the site's own
    """
    from cuckoo_zfsiscsi.netboot.site import render_service, render_site

    config = load(conf_path(ctx))
    deadline = Deadline(TIMEOUT)
    if server is not None:
        done = render_site(config, server.value, deadline)
    elif config.netboot.dhcp == "external":
        raise NetbootError(
            "with dhcp = external the service runs no DHCP server",
            fix="zfsiscsi netboot render --server " + "|".join(one.value for one in SiteServer),
        )
    else:
        done = render_service(config, deadline)
    _print(done, as_json=as_json)


def firewall(
    ctx: typer.Context,
    apply: Annotated[
        bool, typer.Option("--apply", help="Load it, in place of the last one.")
    ] = False,
    remove: Annotated[
        bool, typer.Option("--remove", help="Take it away: guests then reach the whole server.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Print an nftables ruleset: what guests reach on this server and through it, no more.

    On it they reach DHCP, TFTP, the boot listener, their iSCSI portal, and CAPE's result server.
    Through it, if it is their gateway, they reach what CAPE's rooter opens for a run; but no
    sibling, power device or control API, and no private network that is not in `allow`. See
    docs/switch.rst for the rest.

    --apply loads it, and puts beside it into iptables what goes before the rooter's rules: so its
    route none stops neither disk nor boot. Best leave that to the unit:

      systemctl enable --now zfsiscsi-firewall
      systemctl reload zfsiscsi-firewall          # when hosts or networks have changed
    """
    from cuckoo_zfsiscsi.netboot import firewall

    if apply and remove:
        raise typer.BadParameter("either --apply or --remove")
    deadline = Deadline(TIMEOUT)
    if remove:
        firewall.remove(deadline)
        _tell({"removed": True}, "the firewall is removed", as_json=as_json)
        return
    config, server = load(conf_path(ctx)), firewall.look()
    if not apply:
        _print(firewall.render_checked(config, server, deadline), as_json=as_json)
        return
    nets = firewall.apply(config, server, deadline)
    for remark in firewall.remarks(nets, server):
        stderr.print(remark, style="yellow", markup=False)
    guests = [label for net in nets for label in net.guests]
    guarded = firewall.interfaces(nets)
    resolver = str(server.resolver) if server.resolver else None
    let_out = f"CAPE's rooter may let out {', '.join(guests)}" if guests else "nothing is let out"
    _tell(
        {"interfaces": guarded, "gateway_of": guests, "resolver": resolver},
        f"the firewall guards {', '.join(guarded)}; {let_out}",
        as_json=as_json,
    )


def _tell(value: dict[str, object], text: str, *, as_json: bool) -> None:
    if as_json:
        print_json(value)
    else:
        typer.echo(text)


def _print(done: Rendered, *, as_json: bool) -> None:
    if as_json:
        print_json(asdict(done))
        return
    typer.echo(done.text.rstrip("\n"))
    if done.unchecked:
        stderr.print(f"not checked: {done.unchecked}", style="yellow", markup=False)

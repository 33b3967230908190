"""The service's own wheel, for whoever installs the plugin into a sandbox: nothing else is served.

It is open source, and pip sends no bearer token: so nobody needs one for it.
"""

from __future__ import annotations

import asyncio
import hashlib
import sys
from pathlib import Path

from fastapi import FastAPI, Response
from fastapi.responses import FileResponse
from pydantic import BaseModel, Field

from cuckoo_zfsiscsi import __version__
from cuckoo_zfsiscsi.errors import PluginError

FOLDER = Path(sys.prefix) / "share/plugin"
"""Where deploy/install puts it."""
WHEEL = f"cuckoo_zfsiscsi-{__version__}-py3-none-any.whl"
INDEX = "/plugin/"
PATHS = (INDEX, f"{INDEX}{WHEEL}")
"""All that there is."""


class Plugin(BaseModel):
    """The package that the service is itself."""

    name: str = "cuckoo-zfsiscsi"
    version: str = __version__
    sha256: str = Field(description="of the wheel, in hexadecimal")
    url: str = Field(PATHS[1], description="of the wheel, on this server")


def add_plugin(api: FastAPI, folder: Path) -> None:
    """Serve the wheel in this folder."""

    def digest() -> str:
        try:
            return hashlib.sha256((folder / WHEEL).read_bytes()).hexdigest()
        except OSError as error:
            raise PluginError(
                f"{folder / WHEEL} can't be read: {error.strerror}",
                fix="deploy/install makes it; by hand, in the checkout: "
                f"pip wheel --no-deps --wheel-dir {folder} .",
            ) from None

    @api.get(INDEX)
    async def show_plugin() -> Plugin:
        """Tell of the plugin for CAPE and other sandboxes. Needs no token."""
        return Plugin(sha256=await asyncio.to_thread(digest))

    @api.get(PATHS[1])
    async def get_plugin() -> Response:
        """Return the wheel. Needs no token."""
        await asyncio.to_thread(digest)  # is it there?
        # Piece by piece: whoever does not take it must not have all of it kept in memory
        return FileResponse(folder / WHEEL, media_type="application/zip")

"""The few names of CAPE that the machinery plugin uses, so that it runs, as it is, without CAPE.

They behave as CAPE's do where the plugin can tell. Nothing stays in sys.modules.
"""

from __future__ import annotations

import configparser
import importlib.util
import logging
import os
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, ClassVar

import cuckoo_zfsiscsi.cape
from cuckoo_zfsiscsi.clock import SYSTEM, Clock
from cuckoo_zfsiscsi.lab.cape_database import Database, Machine

CUCKOO: dict[str, Any] = {"memory_dump": False}
"""[cuckoo] of cuckoo.conf, as far as the plugin looks at it."""
RESULT_PORT = 2042
TIMEOUTS: dict[str, Any] = {"default": 200, "critical": 60, "vm_state": 300, "stuck_seconds": 100}
"""[timeouts] of cuckoo.conf, in seconds, as CAPE ships it."""

_loading = threading.Lock()
log = logging.getLogger(__name__)


class CuckooCriticalError(Exception):
    """CAPE can't go on."""


class CuckooOperationalError(Exception):
    """Something went wrong."""


class CuckooMachineError(CuckooOperationalError):
    """Something went wrong with a machine."""


class CuckooGuestError(Exception):
    """The guest's agent did not do what it was told."""


class CuckooGuestCriticalTimeout(Exception):  # noqa: N818 - CAPE's own name
    """The guest's agent never answered."""


class Dictionary(dict[str, Any]):
    """A dict whose keys are attributes too; a missing one is None."""

    def __getattr__(self, key: str) -> Any:  # noqa: ANN401
        return self.get(key)


class Config:
    """A configuration file as CAPE reads it: `on` is True, `0123` is 123, the rest is text."""

    def __init__(self, path: Path) -> None:
        environ = {f"ENV:{key}": value.replace("%", "%%") for key, value in os.environ.items()}
        parser = configparser.ConfigParser(environ)
        parser.read(path)
        self.fullconfig: dict[str, dict[str, str]] = {}
        for section in parser.sections():
            keys = [key for key in parser[section] if not key.startswith("env:")]
            self.fullconfig[section] = {key: parser.get(section, key, raw=True) for key in keys}
            setattr(self, section, Dictionary({key: _coerce(parser[section][key]) for key in keys}))

    def get(self, section: str) -> Dictionary:
        """Return one section.

        Raises:
            CuckooOperationalError: there is none.
        """
        found = getattr(self, section, None)
        if not isinstance(found, Dictionary):
            raise CuckooOperationalError(f"Option {section} is not found in configuration")
        return found


def _coerce(text: str) -> bool | int | str:
    words = configparser.ConfigParser.BOOLEAN_STATES
    if text not in ("0", "1") and text.lower() in words:
        return words[text.lower()]
    try:
        return int(text)
    except ValueError:
        return text


class Machinery:
    """CAPE's base class."""

    LABEL = "label"
    module_name: ClassVar[str]
    conf_path: ClassVar[Path]
    RUNNING: ClassVar[str]
    POWEROFF: ClassVar[str]
    ABORTED: ClassVar[str]

    def __init__(self) -> None:
        self.db = Database(self.conf_path.with_name("cape.db"))
        self.options: Config
        self.set_options(Config(self.conf_path))

    def set_options(self, options: Config) -> None:
        """Take the configuration; make a list of [module_name] machines."""
        self.options = options
        ours = options.get(self.module_name)
        if not isinstance(ours["machines"], list):
            ours["machines"] = str(ours["machines"]).strip().split(",")

    def initialize(self) -> None:
        """Read the machines, then check them: what CAPE does at its start."""
        ours = self.options.get(self.module_name)
        with self.db.session.begin():
            self.db.clean_machines()
            for name in ours["machines"]:
                options = self.options.get(name.strip())
                wanted = ("platform", "ip", "arch", "tags", "snapshot")
                row = {key: options.get(key) for key in wanted}
                self.db.add_machine(
                    **row,
                    name=name.strip(),
                    label=str(options[self.LABEL]),
                    interface=options.get("interface") or ours.get("interface"),
                    resultserver_ip=options.get("resultserver_ip"),
                    resultserver_port=options.get("resultserver_port") or RESULT_PORT,
                    reserved=options.get("reserved") or False,
                )
            self._initialize_check()

    def _initialize_check(self) -> None:
        known = self._list()
        for machine in self.machines():
            if machine.label in known and self._status(machine.label) in (
                self.POWEROFF,
                self.ABORTED,
            ):
                continue
            try:
                self.stop(machine.label)
            except CuckooMachineError as error:
                raise CuckooCriticalError(
                    f"Please update your configuration. Unable to shut '{machine.label}' down or "
                    f"find the machine in its proper state: {error}"
                ) from error

    def machines(self) -> list[Machine]:
        """Return all machines."""
        return self.db.list_machines(include_reserved=True)

    def release(self, machine: Machine) -> Machine:
        """Unlock a machine."""
        return self.db.unlock_machine(machine)

    def delete_machine(self, name: str) -> None:
        """Delete a machine's row."""
        self.db.delete_machine(name)

    def running_count(self) -> int:
        """How many machines have a task."""
        return self.db.count_machines_running()

    def shutdown(self) -> None:
        """Stop what runs, but for reserved machines."""
        for machine in self.db.list_machines(locked=True):
            try:
                self.stop(machine.label)
            except CuckooMachineError as error:  # noqa: PERF203
                log.warning("Unable to shutdown machine %s: %s", machine.label, error)

    def start(self, label: str) -> None:
        """Start a machine."""
        raise NotImplementedError

    def stop(self, label: str) -> None:
        """Stop a machine."""
        raise NotImplementedError

    def _list(self) -> list[str]:
        raise NotImplementedError

    def _status(self, label: str) -> str:
        raise NotImplementedError


def load_plugin(
    conf_path: Path,
    timeouts: Mapping[str, Any] = TIMEOUTS,
    clock: Clock = SYSTEM,
    cuckoo: Mapping[str, Any] = CUCKOO,
) -> Machinery:
    """Load the machinery plugin as CAPE does, through its shim; return the one instance.

    Args:
        conf_path: zfsiscsi.conf.
        timeouts: [timeouts] of cuckoo.conf.
        clock: that the plugin's waits go by.
        cuckoo: [cuckoo] of cuckoo.conf.
    """
    base = type("Machinery", (Machinery,), {"conf_path": conf_path})
    config = SimpleNamespace(timeouts=Dictionary(timeouts), cuckoo=Dictionary(cuckoo))
    folder = Path(cuckoo_zfsiscsi.cape.__file__).parent
    with _loading, _cape_modules(base, config):
        sys.modules[f"{cuckoo_zfsiscsi.cape.__name__}.machinery"] = _load(folder / "machinery.py")
        shim = _load(folder / "shim.py")
    plugin: Any
    (plugin,) = (
        value
        for value in vars(shim).values()
        if isinstance(value, type) and issubclass(value, base) and value is not base
    )
    machinery = plugin(clock)
    if not isinstance(machinery, Machinery):  # pragma: no cover - for the type checker
        raise TypeError(plugin)
    return machinery


def _load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"cuckoo_zfsiscsi.cape.{path.stem}", path)
    if spec is None or spec.loader is None:  # pragma: no cover - the files are ours
        raise ImportError(str(path))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@contextmanager
def _cape_modules(base: type, cuckoo: object) -> Iterator[None]:
    """Have the modules of CAPE that the plugin imports, for as long as it is imported."""
    common = "lib.cuckoo.common"
    contents: dict[str, dict[str, object]] = {
        "lib": {},
        "lib.cuckoo": {},
        common: {},
        f"{common}.abstracts": {"Machinery": base},
        f"{common}.config": {"Config": lambda: cuckoo},
        f"{common}.exceptions": {
            "CuckooCriticalError": CuckooCriticalError,
            "CuckooMachineError": CuckooMachineError,
        },
    }
    names = [*contents, "cuckoo_zfsiscsi.cape.machinery"]
    before = {name: sys.modules.pop(name) for name in names if name in sys.modules}
    for name, content in contents.items():
        module = ModuleType(name)
        vars(module).update(content)
        sys.modules[name] = module
    try:
        yield
    finally:
        for name in names:
            sys.modules.pop(name, None)
        sys.modules.update(before)

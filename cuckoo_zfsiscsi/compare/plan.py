"""The plan of a comparison: an INI file that names samples, options and environments."""

from __future__ import annotations

import configparser
import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from cuckoo_zfsiscsi.config.mistakes import nearest
from cuckoo_zfsiscsi.errors import CompareError

BASELINE = "(baseline)"
"""What the benign sample is called among the samples."""
LARGEST = 512 << 20
"""Bytes of a sample."""
OPTIONS = ("package", "platform", "options", "route", "priority", "timeout", "enforce_timeout")
"""Keys of [compare] that go to CAPE as they are, the same for each environment."""
COMPARE = ("baseline", "repeat", "patience", *OPTIONS)
ENVIRONMENT = ("server", "token_file", "machine", "tags", "kind", "rate", "at_once")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 _./+-]{0,62}")


@dataclass(frozen=True)
class Sample:
    """One file to run."""

    name: str
    path: Path
    sha256: str


@dataclass(frozen=True)
class Environment:
    """Machines of one CAPE server that count as the same."""

    name: str
    server: str
    """Root of the server's web interface, without a slash at the end."""
    machine: str
    """CAPE's label of the one machine, or ""."""
    tags: tuple[str, ...]
    """Or: CAPE's tags, all of which a machine must have."""
    physical: bool
    token_file: Path | None
    rate: int
    """Requests per minute to this server; the smallest of its environments' counts."""
    at_once: int
    """Tasks submitted and not ended."""


@dataclass(frozen=True)
class Cell:
    """One sample in one environment, once."""

    sample: str
    environment: str
    repetition: int

    @property
    def key(self) -> str:
        """Name in the journal."""
        return f"{self.sample}|{self.environment}|{self.repetition}"


@dataclass(frozen=True)
class Plan:
    """All of it."""

    path: Path
    samples: tuple[Sample, ...]
    """Without the baseline."""
    baseline: Sample | None
    environments: tuple[Environment, ...]
    repeat: int
    patience: float
    """Seconds after its submission within which a task must have ended."""
    options: dict[str, str]

    @property
    def files(self) -> dict[str, Sample]:
        """Every file to submit, by its name; the baseline first."""
        first = [self.baseline] if self.baseline else []
        return {sample.name: sample for sample in (*first, *self.samples)}

    def cells(self, environment: Environment) -> list[Cell]:
        """Return what runs in an environment, in this order: the same one in each of them."""
        return [
            Cell(sample, environment.name, number)
            for number in range(1, self.repeat + 1)
            for sample in self.files
        ]

    @property
    def fingerprint(self) -> str:
        """Digest of all that makes results comparable; how fast we ask is no part of it."""
        what = {
            "files": {sample.name: sample.sha256 for sample in self.files.values()},
            "environments": [
                [one.name, one.server, one.machine, list(one.tags), one.physical]
                for one in self.environments
            ],
            "repeat": self.repeat,
            "options": self.options,
        }
        return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()


def read_plan(path: Path) -> Plan:
    """Read a plan and its samples.

    Raises:
        CompareError: it can't be used; says which section and key, and how to fix it.
    """
    parser = configparser.ConfigParser(interpolation=None, delimiters=("=",))
    setattr(parser, "optionxform", str)  # noqa: B010 - samples keep their names; mypy says no
    try:
        parser.read_string(path.read_text(), str(path))
    except OSError as error:
        raise CompareError(
            f"{path} can't be read: {error.strerror}",
            fix="zfsiscsi compare --example > compare.ini",
        ) from None
    except (configparser.Error, UnicodeDecodeError) as error:
        raise CompareError(f"{path}: {' '.join(str(error).split())}", fix=f"edit {path}") from None
    return _Reader(path, parser).plan()


class _Reader:
    def __init__(self, path: Path, parser: configparser.ConfigParser) -> None:
        self._path = path
        self._sections = {name: dict(parser[name]) for name in parser.sections()}

    def plan(self) -> Plan:
        for name in ("compare", "samples"):
            if name not in self._sections:
                raise self._wrong(name, "", "the section is missing", f"add [{name}]")
        general = self._sections["compare"]
        self._known("compare", COMPARE)
        samples = tuple(
            self._sample("samples", name, text) for name, text in self._sections["samples"].items()
        )
        if not samples:
            raise self._wrong("samples", "", "names no sample", "add NAME = PATH")
        baseline = general.get("baseline", "").strip()
        if not baseline:
            raise self._wrong(
                "compare", "baseline", "is missing: without it the guest's own traffic counts",
                "baseline = PATH of a benign program, or baseline = off",
            )  # fmt: skip
        names = [name for name in self._sections if name not in ("compare", "samples")]
        if not names:
            raise self._wrong("kvm", "", "there is no environment", "add a section for each")
        environments = tuple(self._environment(name) for name in names)
        tokens = {env.server: env.token_file for env in environments}
        for env in environments:
            if env.token_file != tokens[env.server]:
                raise self._wrong(
                    env.name,
                    "token_file",
                    f"is another one than elsewhere for {env.server}",
                    "the same token_file in each environment of one server",
                )
        return Plan(
            self._path,
            samples,
            None if baseline == "off" else self._sample("compare", BASELINE, baseline),
            environments,
            self._number("compare", "repeat", "1", 1, 100),
            float(self._number("compare", "patience", "14400", 60, 1_000_000)),
            {key: general[key].strip() for key in OPTIONS if general.get(key, "").strip()},
        )

    def _sample(self, section: str, name: str, text: str) -> Sample:
        if section == "samples" and not _NAME.fullmatch(name):
            raise self._wrong(
                section, name, "is no name of a sample", "use letters, digits, space and _./+-"
            )
        path = self._path.parent / Path(text.strip()).expanduser()
        key = "baseline" if name == BASELINE else name
        try:
            if not path.is_file() or path.stat().st_size > LARGEST:
                fix = f"{key} = PATH of a file of up to {LARGEST >> 20} MiB"
                raise self._wrong(section, key, f"{path} is no such file", fix)
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
        except OSError as error:
            raise self._wrong(
                section, key, f"{path} can't be read: {error.strerror}", f"ls -l {path}"
            ) from None
        return Sample(name, path, digest)

    def _environment(self, name: str) -> Environment:
        values = self._sections[name]
        self._known(name, ENVIRONMENT)
        if not _NAME.fullmatch(name):
            raise self._wrong(name, "", "is no name of an environment", "rename the section")
        server = values.get("server", "").strip().rstrip("/")
        url = urlsplit(server)
        if url.scheme not in ("http", "https") or not url.hostname or url.username:
            raise self._wrong(
                name, "server", f"{server!r} is no URL", "server = http://ADDRESS:8000"
            )
        machine = values.get("machine", "").strip()
        tags = tuple(tag.strip() for tag in values.get("tags", "").split(",") if tag.strip())
        if bool(machine) == bool(tags):
            raise self._wrong(
                name, "machine", "give either machine or tags", "machine = LABEL, as CAPE has it"
            )
        kind = values.get("kind", "").strip()
        if kind not in ("physical", "virtual"):
            raise self._wrong(
                name, "kind", f"{kind!r} is neither", "kind = physical or kind = virtual"
            )
        token = values.get("token_file", "").strip()
        return Environment(
            name,
            server,
            machine,
            tags,
            kind == "physical",
            self._path.parent / Path(token).expanduser() if token else None,
            self._number(name, "rate", "5", 1, 6000),
            self._number(name, "at_once", "1", 1, 1000),
        )

    def _known(self, section: str, keys: tuple[str, ...]) -> None:
        for key in self._sections[section]:
            if key not in keys:
                best = nearest(key, list(keys))
                fix = f"did you mean {best}?" if best else f"use one of: {', '.join(keys)}"
                raise self._wrong(section, key, "is no key of this section", fix)

    def _number(self, section: str, key: str, default: str, least: int, most: int) -> int:
        text = self._sections[section].get(key, default).strip()
        if not text.isascii() or not text.isdigit() or not least <= int(text) <= most:
            raise self._wrong(
                section, key, f"{text!r} is not a whole number from {least} to {most}",
                f"{key} = {default}",
            )  # fmt: skip
        return int(text)

    def _wrong(self, section: str, key: str, reason: str, fix: str) -> CompareError:
        where = f"{self._path} [{section}]" + (f" {key}" if key else "")
        return CompareError(f"{where}: {reason}", fix=fix)

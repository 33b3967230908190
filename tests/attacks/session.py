"""A random session: one host's malware plays moves while all others go on with clean runs.

The hosts are those of tests/faults/farm.py, on one wire or each on its own, behind the server's
firewall. Each sibling
begins a run, has its guest write over the boot sector, and ends the run, again and again; the
infected host does so, too, between two lives of its malware. The oracle looks at the disk of every
run: by the host's own session and in the store's file, whole, against the golden image when the run
has begun, and against that and what the guest has written before it ends.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from statistics import median

from cuckoo_zfsiscsi.cape.client import Client, ServiceError
from cuckoo_zfsiscsi.errors import ZfsIscsiError
from tests.attacks.attacker import WRONG
from tests.attacks.infection import CONTROL, knowledge
from tests.attacks.moves import primitives
from tests.faults.farm import Farm
from tests.faults.patience import SERVICE
from tests.netboot.network import inside
from tests.processes import alive
from tests.waiting import HANG, wait

ROOT = Path(__file__).parents[2]
CONTROL_PORT = 8470
TOKEN = "a-token-of-the-test"
INFECTED = "pc1"
CALM = 4
"""Runs of each sibling before the attack: by these the others are judged."""
LIFE = 50
"""Moves of one life of the malware: then its host is reset like any other."""
DWELL = 0.3
"""Seconds that a run lasts."""
START, RESET = 2.0, 1.0
"""Seconds by which a sibling's start, and its reset, may be later than in calm."""
SINCE = 3.0
"""Seconds after a move that takes another's place in which what is late is its work."""
TRIES = 3
"""Boots of the infected host that may fail in a row."""
LAST = 20
"""Moves that a failure shows."""


@dataclass
class Run:
    """One run of a host."""

    label: str
    begun: float
    """Monotonic seconds."""
    start: float = 0.0
    """Seconds that the start took."""
    reset: float = 0.0
    """Seconds from proved off to clean again."""
    end: float = 0.0
    """When its host was clean again, or it was refused (monotonic seconds)."""
    refused: str = ""
    """Why there was none, or why it did not come to its end."""
    void: int = 0
    """Boots that the service gave up, since another may have used the disk."""


@dataclass
class Result:
    """What a session showed."""

    seed: int
    moves: int = 0
    kinds: int = 0
    """Primitives that were played."""
    runs: int = 0
    """Clean runs beside the attack, of siblings."""
    dirty: list[str] = field(default_factory=list)
    dead: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    """Moves that were let do what they must not."""
    refused: list[str] = field(default_factory=list)
    """Runs of siblings that failed, though nobody was in their place."""
    lost: list[str] = field(default_factory=list)
    """Hosts that did not come back after the attack."""
    void: int = 0
    """Boots given up as another may have used the disk."""
    in_place: int = 0
    """Runs that failed as somebody was in their host's place, or the server's."""
    start_late: float = 0.0
    """Seconds by which the latest start of a sibling was later than in calm."""
    reset_late: float = 0.0
    start_late_in_place: float = 0.0
    """As start_late, of starts beside a move that takes another's place on their wire."""
    reset_late_in_place: float = 0.0
    """As reset_late, likewise: who answers in a host's place keeps it from being proved off."""
    calm: dict[str, float] = field(default_factory=dict)
    """Medians without an attack: start, reset."""
    last: list[str] = field(default_factory=list)

    def faults(self, *, timed: bool) -> list[str]:
        """Return what is not as it must be.

        Args:
            timed: the bounds of time count, too; for a machine that does nothing else.
        """
        found = [*self.dirty, *self.dead, *self.wrong, *self.refused, *self.lost]
        if timed and self.start_late > START:
            found.append(f"a sibling's start was late by {self.start_late:.1f} s")
        if timed and self.reset_late > RESET:
            found.append(f"a sibling's reset was late by {self.reset_late:.1f} s")
        return found

    def __str__(self) -> str:
        calm = ", ".join(f"{name} {value:.2f} s" for name, value in self.calm.items())
        return (
            f"seed {self.seed}: {self.moves} moves of {self.kinds} kinds beside {self.runs} runs: "
            f"{len(self.dirty)} dirty, {len(self.dead)} processes dead, {self.void} boots void, "
            f"{len(self.refused)} runs failed ({self.in_place} more where another's place was "
            f"taken), {len(self.lost)} hosts lost; late at most: "
            f"start {self.start_late:.2f} s ({self.start_late_in_place:.2f} s where "
            f"another's place was taken), reset {self.reset_late:.2f} s "
            f"({self.reset_late_in_place:.2f} s, likewise); without an attack: {calm}"
        )


class Session:
    """One session.

    Args:
        farm: opened, its service not started. Its first host is the infected one.
        seed: of the moves.
        only: primitives or themes that are played; all by default.
        without: those that are not.
    """

    def __init__(
        self, farm: Farm, seed: int, only: Collection[str] = (), without: Collection[str] = ()
    ) -> None:
        self.farm = farm
        self.result = Result(seed)
        self.log = farm.at / "moves.log"
        self._only, self._without = ",".join(only), ",".join(without)
        self._golden = farm.golden
        self._siblings = [label for label in farm.labels if label != INFECTED]
        self._runs: list[Run] = []
        self._lock = threading.Lock()
        self._watched: dict[int, str] = {}

    def run(self, moves: int) -> Result:
        """Play it; return what it showed."""
        self.log.touch()
        (self.farm.at / "knows.json").write_text(knowledge(self.farm).dump())
        self.farm.network.ip(f"addr add {CONTROL}/32 dev lo")
        text = self.farm.conf.read_text()
        token = self.farm.at / "token"
        token.touch(0o600)
        token.write_text(f"{TOKEN}\n")
        service = f"http://{CONTROL}:{CONTROL_PORT}"
        text = re.sub("(?m)^service = .*$", f"service = {service}\ntoken_file = {token}", text)
        self.farm.conf.write_text(text)
        self.farm.client = Client(service, str(token))
        self.farm.guard()
        with inside(self.farm.namespace):
            self.farm.start()
            self.farm.wait(lambda: set(self.farm.states().values()) == {"clean"}, "the first disks")
            self._in_calm()
            self._watched = self._processes()
            self._attack(moves)
            self._bring_back()
        self._judge()
        return self.result

    # The phases.

    def _in_calm(self) -> None:
        """Have all siblings go through some runs, at the same time, as later on."""
        with self._playing() as players:
            for player in players:
                player.join(HANG * CALM)
        for name in ("start", "reset"):
            self.result.calm[name] = median(getattr(run, name) for run in self._runs)
        self._runs.clear()

    def _attack(self, moves: int) -> None:
        played = failed = 0
        over = threading.Event()
        with self._playing(over):
            while played < moves and failed < TRIES and not self._is_lost():
                done = self._live(played, min(LIFE, moves - played))
                played, failed = played + done, 0 if done else failed + 1
        self.result.moves = played

    @contextmanager
    def _playing(self, over: threading.Event | None = None) -> Iterator[list[threading.Thread]]:
        """Have the siblings go on with runs until it is over; without that, CALM times."""
        players = [
            threading.Thread(target=self._play, args=(label, over), name=label)
            for label in self._siblings
        ]
        for player in players:
            player.start()
        try:
            yield players
        finally:
            if over:
                over.set()
            for player in players:
                player.join(SERVICE + 2 * HANG)

    def _play(self, label: str, over: threading.Event | None) -> None:
        with inside(self.farm.namespace):
            for _ in range(CALM if over is None else 1 << 30):
                if over and over.is_set():
                    return
                run = self._one_run(label)
                with self._lock:
                    self._runs.append(run)

    def _live(self, played: int, moves: int) -> int:
        """Have malware on the infected host play so many moves, until its host is reset."""
        run = self._begin(INFECTED)
        if run.refused:
            self._heal(INFECTED)
            return 0
        argv = ["nsenter", f"--net={self.farm.guest(INFECTED)}", "--", sys.executable, "-m"]
        argv += ["tests.attacks.attacker", "--knows", str(self.farm.at / "knows.json")]
        argv += ["--log", str(self.log), "--pid", str(self.farm.machines[INFECTED].pid)]
        argv += ["--seed", str(self.result.seed), "--first", str(played + 1), "--moves", str(moves)]
        argv += ["--only", self._only, "--without", self._without]
        with (self.farm.at / "attacker.log").open("ab") as log:
            attacker = subprocess.Popen(argv, stdout=log, stderr=log, cwd=ROOT)
        try:
            wait(
                lambda: attacker.poll() is not None or self._played() >= played + moves,
                moves * 10 + HANG,
                "the moves",
                lambda: self.last_moves(),
                pause=0.1,
            )
            done = self._played() - played
            self._end(run, check=False)
        finally:
            attacker.kill()
            attacker.wait()
            self._new_kernel()
        return done

    def _new_kernel(self) -> None:
        """Take from the infected host's card what its malware has put there, as a boot would."""
        own = str(self.farm.address(1))
        name = self.farm.guest(INFECTED).name
        argv = ["ip", "-n", name, "-o", "-4", "addr", "show", "dev", "eth0"]
        said = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
        for address in re.findall(r"inet (\S+)", said):
            if not address.startswith(f"{own}/"):
                argv = ["ip", "-n", name, "addr", "delete", address, "dev", "eth0"]
                subprocess.run(argv, check=False)

    def _bring_back(self) -> None:
        """Have every host go through one more clean run."""
        for label in self.farm.labels:
            self._heal(label)
            run = self._one_run(label)
            if run.refused:
                self.result.lost.append(f"{label} does not come back: {run.refused}")

    # One run.

    def _one_run(self, label: str) -> Run:
        run = self._begin(label)
        if not run.refused:
            time.sleep(DWELL)
        self._end(run, check=not run.refused)
        return run

    def _begin(self, label: str) -> Run:
        run = Run(label, time.monotonic())
        voided = self._voided(label)
        try:
            self.farm.client.start(label, SERVICE)
        except ServiceError as error:
            run.refused = str(error)
        run.start = time.monotonic() - run.begun
        run.void = self._voided(label) - voided
        run.end = time.monotonic()
        if not run.refused:
            self._compare(run, self._golden, "begins with")
        return run

    def _end(self, run: Run, *, check: bool = True) -> None:
        """Have the guest write to its disk, look at it once more, and end the run.

        Args:
            run: begun.
            check: the disk holds what the guest has written, and nothing else.
        """
        label = run.label
        if check:
            try:
                sector = bytes.fromhex(self._ask_guest(label, "/infect", "POST")["sector"])
                self._compare(run, sector + self._golden[len(sector) :], "ends with")
            except OSError as error:
                run.refused = f"its guest does not answer: {error}"
        try:
            self.farm.client.stop(label, SERVICE)
        except ServiceError as error:
            run.refused = run.refused or str(error)
        begin = run.end = time.monotonic()
        if run.refused:
            self._heal(label)
            return
        self._until_clean(label)
        run.end = time.monotonic()
        run.reset = run.end - begin

    def _until_clean(self, label: str) -> None:
        def clean() -> bool:
            return str(self.farm.client.host(label)["state"]) == "clean"

        with contextlib.suppress(ZfsIscsiError, AssertionError):
            wait(clean, HANG, f"waited for {label} to be clean", pause=0.02)

    def _heal(self, label: str) -> None:
        """Have a host proved again, until it is clean."""
        if self._is_lost():
            return
        with contextlib.suppress(ServiceError):
            self.farm.client.reset(label)
        self._until_clean(label)

    # The oracle.

    def _compare(self, run: Run, wanted: bytes, what: str) -> None:
        """Compare a host's disk with what it must hold, seen by its session and in the store."""
        label = run.label
        digest = hashlib.sha256(wanted).hexdigest()
        try:
            host = self.farm.client.host(label)
            generation = host["generation"]
            file = self.farm.at / "store" / "disks" / label / f"{generation}.raw"
            seen = self._ask_guest(label, "/disk")["sha256"]
            stored = hashlib.sha256(file.read_bytes()).hexdigest()
        except (OSError, ZfsIscsiError, KeyError) as error:
            run.refused = f"lost after {self._played()} moves: {error}"
            return
        if (seen, stored) != (digest, digest):
            how = "its session" if seen != digest else "the store's file"
            text = f"{label} {what} a wrong disk (generation {generation}, as {how} has it)"
            with self._lock:
                self.result.dirty.append(f"{text}, after {self._played()} moves")

    def _ask_guest(self, label: str, path: str, method: str = "GET") -> dict[str, str]:
        """Ask a guest's agent from within, past whoever has taken its address."""
        url = f"http://127.0.0.1:8000{path}"
        request = urllib.request.Request(url, method=method, data=b"" if method == "POST" else None)
        with inside(self.farm.guest(label)), urllib.request.urlopen(request, timeout=30) as answer:
            found: dict[str, str] = json.loads(answer.read())
            return found

    def _voided(self, label: str) -> int:
        text = self.farm.log.read_text(errors="replace")
        return len(re.findall(rf"\b{label}\b.*\b(?:is void|someone else uses)\b", text))

    def _processes(self) -> dict[int, str]:
        """Return what must not die: the service and its servers."""
        found = {}
        for pid in self.farm.network.pids():
            with contextlib.suppress(OSError):
                line = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
                name = Path(f"/proc/{pid}/comm").read_text().strip()
                if name != "ipmi_sim" and (pid == self.farm.pid or name in ("tgtd", "dnsmasq")):
                    found[pid] = f"{name} ({line.strip()})"
        return found

    def _is_lost(self) -> bool:
        """Whether there is no use in going on."""
        return bool(self.result.dirty) or not self.farm.runs

    def _judge(self) -> None:
        result, text = self.result, self.farm.log.read_text(errors="replace")
        for pid, name in self._watched.items():
            if not alive(pid) and f":{INFECTED}" not in name and f"/{INFECTED}" not in name:
                result.dead.append(f"{name} has died")
        result.dead += [
            line
            for line in text.splitlines()
            if re.search(r"has died|Traceback", line) and INFECTED not in line
        ]
        log = self.log.read_text().splitlines()
        result.wrong = [
            f"{before}: {line.strip()}" for before, line in pairwise(log)
            if WRONG in line
        ]  # fmt: skip
        played = [line.split() for line in log if not line.startswith(" ")]
        result.kinds = len({name for _, name, *_ in played})
        result.last = log[-2 * LAST :]
        self._judge_times()

    def _judge_times(self) -> None:
        result, places = self.result, self._places()
        shared = not self.farm.alone
        for run in self._runs:
            result.void += run.void
            beside = [at for at in places if shared and run.begun - SINCE < at < run.end]
            if run.refused and (run.void or beside):
                result.in_place += 1
            elif run.refused:
                result.refused.append(f"{run.label}: {run.refused}")
            else:
                result.runs += 1
                ready, stopped = run.begun + run.start, run.end - run.reset
                in_place = bool(run.void) or any(at < ready for at in beside)
                self._note_late("start", run.start, in_place=in_place)
                in_place = any(at > stopped - SINCE for at in beside)
                self._note_late("reset", run.reset, in_place=in_place)

    def _note_late(self, what: str, seconds: float, *, in_place: bool) -> None:
        result, name = self.result, f"{what}_late{'_in_place' if in_place else ''}"
        setattr(result, name, max(getattr(result, name), seconds - self.result.calm[what]))

    def _places(self) -> list[float]:
        """Return when moves were played that take another's place."""
        every = primitives()
        return [
            float(line.split()[-1])
            for line in self.log.read_text().splitlines()
            if not line.startswith(" ") and every[line.split()[1]].takes_place
        ]

    def _played(self) -> int:
        return sum(line.startswith("  ") for line in self.log.read_text().splitlines())

    def last_moves(self) -> str:
        """Return the last moves, one a line."""
        return "\n".join(self.log.read_text().splitlines()[-2 * LAST :])

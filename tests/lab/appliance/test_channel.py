"""The channel's two ends, joined by a socket in the place of the emulated serial port."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import select
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from cuckoo_zfsiscsi.deadline import Cancel, Deadline
from cuckoo_zfsiscsi.errors import CancelledError, DeadlineExceededError, LabError
from cuckoo_zfsiscsi.lab.appliance import channel
from cuckoo_zfsiscsi.lab.appliance.guest import agent
from tests.processes import alive
from tests.waiting import HANG, wait


class Ports:
    """What QEMU and the kernel are between the ends: one peer at a time at each port."""

    def __init__(self, state: Path, names: list[str]) -> None:
        self.garbage = b""
        self._listeners = []
        self._threads = []
        for name in names:
            listener = socket.socket(socket.AF_UNIX)
            # A path may be longer than a socket's: pytest's are
            folder = os.open(state, os.O_RDONLY)
            listener.bind(f"/proc/self/fd/{folder}/{name}")
            os.close(folder)
            listener.listen()
            self._listeners.append(listener)
            self._threads.append(threading.Thread(target=self._serve, args=(listener,)))
            self._threads[-1].start()

    def _serve(self, listener: socket.socket) -> None:
        while True:
            try:
                peer, _ = listener.accept()
            except OSError:
                return
            with peer, contextlib.suppress(ConnectionError):
                peer.sendall(self.garbage)
                agent.converse(peer.fileno())

    def close(self) -> None:
        for listener in self._listeners:
            listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        for thread in self._threads:
            thread.join()


@pytest.fixture
def ports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ports]:
    monkeypatch.setattr(channel, "PORTS", 2)
    made = Ports(tmp_path, channel.names())
    yield made
    made.close()


Run = Callable[..., tuple[int, bytes, bytes]]


class UntilItSpeaks(Deadline):
    """Is over when the command has said something: however long it took to begin."""

    has_spoken = False

    @property
    def remaining(self) -> float:
        return 0.0 if self.has_spoken else super().remaining


@pytest.fixture
def run(tmp_path: Path, ports: Ports) -> Run:
    def run(*argv: str, deadline: Deadline | None = None, **env: str) -> tuple[int, bytes, bytes]:
        said = {"out": b"", "err": b""}
        deadline = deadline or Deadline(HANG)

        def keep(stream: str, data: bytes) -> None:
            said[stream] += data
            if isinstance(deadline, UntilItSpeaks):
                deadline.has_spoken = True

        status = channel.run(tmp_path, argv, cwd="/usr", env=env, deadline=deadline, on_output=keep)
        return status, said["out"], said["err"]

    return run


def test_status_streams_place_and_environment(run: Run) -> None:
    script = "pwd; echo $WORD; echo bad >&2; exit 7"
    assert run("sh", "-c", script, WORD="a word") == (7, b"/usr\na word\n", b"bad\n")


def test_a_signal_is_told_as_a_shell_does(run: Run) -> None:
    assert run("sh", "-c", "kill -9 $$")[0] == 128 + 9


def test_more_than_a_line_and_not_text(run: Run) -> None:
    program = "import os; [os.write(1, bytes(range(256)) * 4096) for _ in range(3)]"
    status, out, _ = run(sys.executable, "-c", program)
    assert status == 0
    assert out == bytes(range(256)) * 4096 * 3


def test_a_program_that_is_not_there(run: Run) -> None:
    with pytest.raises(LabError, match="No such file"):
        run("no-such-program")
    assert run("true")[0] == 0


def test_a_child_that_stays_does_not_hold_the_command(run: Run, tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    assert run("sh", "-c", f"sleep 600 & echo $! >{pid}; echo done")[:2] == (0, b"done\n")
    child = int(pid.read_text())
    assert alive(child)
    os.kill(child, 9)


def test_what_it_said_last_is_whole_though_time_is_up(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A child that keeps the pipe is given no time, what the command left in it is passed on."""
    monkeypatch.setattr(agent, "LINGER", 0.0)
    monkeypatch.setattr(agent, "CHUNK", 1000)
    script = "sleep 600 & echo $!; head -c 60000 /dev/zero"
    for _ in range(3):
        status, out, _ = run("sh", "-c", script)
        child, _, zeros = out.partition(b"\n")
        os.kill(int(child), 9)
        assert (status, len(zeros)) == (0, 60000)


def test_a_command_that_closes_its_output_is_waited_for(run: Run) -> None:
    assert run("sh", "-c", "exec >&- 2>&-; sleep 0.3; exit 3")[0] == 3


@pytest.mark.parametrize("noise", ["", "yes &"])
def test_time_is_up_and_the_command_is_ended(run: Run, tmp_path: Path, noise: str) -> None:
    pid = tmp_path / "pid"
    script = f"echo $$ >{pid}; {noise} echo up; sleep 600"
    with pytest.raises(DeadlineExceededError, match="sh -c"):
        run("sh", "-c", script, deadline=UntilItSpeaks(HANG))
    wait(lambda: not alive(int(pid.read_text())), what="its end")
    assert run("true")[0] == 0


def test_a_command_that_ignores_sigterm_is_ended(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agent, "GRACE", 0.2)
    pid = tmp_path / "pid"
    script = f"trap '' TERM; echo $$ >{pid}; echo up; exec >&- 2>&-; while :; do sleep 0.1; done"
    with pytest.raises(DeadlineExceededError):
        run("sh", "-c", script, deadline=UntilItSpeaks(HANG))
    wait(lambda: not alive(int(pid.read_text())), what="its end")


def test_at_the_same_time_as_many_as_there_are_ports(run: Run, tmp_path: Path) -> None:
    """Each waits for the other; a third has to wait for one of them."""
    a, b, end = tmp_path / "a", tmp_path / "b", tmp_path / "end"
    found: list[int] = []

    def meet(mine: Path, other: Path) -> None:
        script = f"touch {mine}; while [ ! -e {other} ]; do sleep 0.05; done"
        found.append(run("sh", "-c", script)[0])

    threads = [threading.Thread(target=meet, args=pair) for pair in ((a, b), (b, a))]
    threads[0].start()
    wait(a.exists, what="the first command")
    hold = threading.Thread(
        target=run, args=("sh", "-c", f"while [ ! -e {end} ]; do sleep 0.05; done")
    )
    hold.start()
    wait(lambda: busy(tmp_path) == 2, what="two busy ports", seen=lambda: busy(tmp_path))
    with pytest.raises(DeadlineExceededError, match="waiting for one of 2 ports"):
        run("true", deadline=Deadline(0.3))
    end.touch()
    hold.join()
    threads[1].start()
    for thread in threads:
        thread.join()
    assert found == [0, 0]


def busy(state: Path) -> int:
    locks = Path("/proc/locks").read_text()
    return sum(f":{(state / f'{name}.lock').stat().st_ino} " in locks for name in channel.names()
               if (state / f"{name}.lock").exists())  # fmt: skip


def test_what_went_to_another_is_no_answer(run: Run, ports: Ports) -> None:
    ports.garbage = b'3}\n[1]\n{"id": "other", "exit": 9}\n{"id": "oth'
    assert run("sh", "-c", "echo mine") == (0, b"mine\n", b"")


Line = tuple[socket.socket, socket.socket]


@pytest.fixture
def line() -> Iterator[Line]:
    """Return the two ends of a serial line, the second one the agent's."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def request(number: int) -> bytes:
    asked = {"id": number, "argv": ["echo", "mine"], "cwd": "/", "env": {}}
    return b"\n" + json.dumps(asked).encode() + b"\n"


def answered(line: Line) -> set[int]:
    """Return whose requests the agent answers until one has ended; then it sees us go."""
    ours, theirs = line
    ours.settimeout(HANG)
    agent_runs = threading.Thread(target=agent.converse, args=(theirs.fileno(),))
    agent_runs.start()
    who: set[int] = set()
    with ours.makefile("rb") as lines:
        for answer in (json.loads(text) for text in lines if text.strip()):
            who.add(answer["id"])
            if "exit" in answer:
                break
    ours.close()
    agent_runs.join()
    return who


def test_another_comes_while_the_port_is_looked_at(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel woke the agent because one went; now another is there, who said nothing yet."""
    looks = itertools.count(1)

    class Poll:
        def __init__(self) -> None:
            self._poll = select.poll()
            self.register = self._poll.register
            self.unregister = self._poll.unregister

        def poll(self, milliseconds: int | None = None) -> list[tuple[int, int]]:
            look = next(looks)
            if look == 1:  # there is nothing to read
                return [(0, select.POLLHUP)]
            if look == 2:
                line[0].sendall(request(1))
            return self._poll.poll(milliseconds)

    monkeypatch.setattr(agent, "select", SimpleNamespace(poll=Poll, POLLIN=select.POLLIN))
    assert answered(line) == {1}


def test_only_who_asked_last_is_there(line: Line) -> None:
    """A request that is read after its sender went does not keep the next one waiting."""
    line[0].sendall(request(1) + request(2))
    assert answered(line) == {2}


@pytest.mark.parametrize("line", [b"", b"}", b"5", b"[]", b'{"id": 1}', b"\xff"])
def test_what_is_no_request(line: bytes) -> None:
    assert agent.parse(line) == {}


def test_it_is_off(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="the appliance is off"):
        channel.run(
            tmp_path,
            ["true"],
            cwd="/",
            env={},
            deadline=Deadline(HANG),
            on_output=lambda _s, _d: None,
        )


def test_it_goes_off(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        folder = os.open(tmp_path, os.O_RDONLY)
        listener.bind(f"/proc/self/fd/{folder}/agent0")
        os.close(folder)
        listener.listen()

        def fail() -> None:
            peer, _ = listener.accept()
            peer.recv(1)
            peer.close()

        thread = threading.Thread(target=fail)
        thread.start()
        with pytest.raises(LabError, match="the appliance went off"):
            channel.run(
                tmp_path,
                ["true"],
                cwd="/",
                env={},
                deadline=Deadline(HANG),
                on_output=lambda _s, _d: None,
            )
        thread.join()


def test_cancelled(run: Run, tmp_path: Path) -> None:
    cancel = Cancel()
    threading.Timer(0.3, cancel.set, ("enough",)).start()
    with pytest.raises(CancelledError, match="enough"):
        channel.run(
            tmp_path,
            ["sleep", "600"],
            cwd="/",
            env={},
            deadline=Deadline(HANG, cancel),
            on_output=lambda _s, _d: None,
        )


def test_every_port_has_a_socket_and_a_device() -> None:
    argv = channel.devices()
    for name in channel.names():
        assert f"socket,id={name},path={name},server=on,wait=off" in argv
        assert f"virtserialport,chardev={name},name={name}" in argv

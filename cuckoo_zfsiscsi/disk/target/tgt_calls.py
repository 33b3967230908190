"""The system calls that a tgtd in its sandbox may make: a seccomp filter (seccomp(2)).

A list of what it needs; all else is answered as by a kernel that does not know the call, so that a
newer C library takes its older way. It can make threads and no process, and sockets that wait for
a peer and none that go to one: no connection, no datagram, no packet.
"""

from __future__ import annotations

import errno
import functools
import socket
import tempfile

from cuckoo_zfsiscsi.errors import TargetError

_START = """
    execve brk arch_prctl set_tid_address set_robust_list rseq prlimit64 getrlimit setrlimit
    getrandom uname prctl capget capset setresuid setresgid setuid setgid setgroups getgroups
    getuid geteuid getgid getegid getresuid getresgid
"""
"""What the dynamic loader and setpriv need too: without a capability the latter changes nothing."""
_MEMORY = "mmap mprotect munmap mremap madvise"
_THREADS = """
    futex exit exit_group sched_yield sched_getaffinity getpid gettid kill tgkill
    rt_sigaction rt_sigprocmask rt_sigreturn sigaltstack signalfd signalfd4 restart_syscall
"""
"""kill: its threads tell each other so; it sees no other process (pid_namespaces(7))."""
_TIME = """
    clock_gettime clock_nanosleep nanosleep gettimeofday time
    timerfd_create timerfd_settime timerfd_gettime
"""
_FILES = """
    open openat close read readv pread64 write writev pwrite64 lseek access faccessat faccessat2
    stat fstat lstat newfstatat statx readlink readlinkat getdents64 unlink unlinkat fcntl ioctl
    fsync fdatasync fadvise64 fallocate pipe pipe2 eventfd2 dup
"""
_SOCKETS = """
    bind listen accept accept4 getsockname getpeername setsockopt getsockopt shutdown recvfrom
    epoll_create epoll_create1 epoll_ctl epoll_wait epoll_pwait epoll_pwait2 poll ppoll
"""
_CLONE_THREAD = 0x00010000
_TYPE = 0xF
"""The bits of a socket's type: the others are flags (socket(2))."""
_FAST_OPEN = 0x20000000
"""MSG_FASTOPEN: to connect and to send in one call (sendto(2))."""


@functools.cache
def program() -> bytes:
    """Return the filter, as struct sock_filter's.

    Raises:
        TargetError: libseccomp is missing.
    """
    try:
        import pyseccomp as seccomp
    except (ImportError, RuntimeError) as error:
        raise TargetError(
            f"tgtd's sandbox needs libseccomp: {error}", fix="apt install libseccomp2"
        ) from None
    calls = seccomp.SyscallFilter(seccomp.ERRNO(errno.ENOSYS))
    for name in " ".join((_START, _MEMORY, _THREADS, _TIME, _FILES, _SOCKETS)).split():
        calls.add_rule(seccomp.ALLOW, name)
    masked, equal = seccomp.MASKED_EQ, seccomp.EQ
    calls.add_rule(seccomp.ALLOW, "clone", seccomp.Arg(0, masked, _CLONE_THREAD, _CLONE_THREAD))
    for family in (socket.AF_INET, socket.AF_UNIX):
        stream = seccomp.Arg(1, masked, _TYPE, socket.SOCK_STREAM)
        calls.add_rule(seccomp.ALLOW, "socket", seccomp.Arg(0, equal, family), stream)
    calls.add_rule(
        seccomp.ALLOW, "sendto", seccomp.Arg(3, masked, _FAST_OPEN, 0), seccomp.Arg(4, equal, 0)
    )
    with tempfile.TemporaryFile() as file:
        calls.export_bpf(file)
        file.seek(0)
        return file.read()

#!/usr/bin/python3.11 -ISB
"""Stands before python3 on a lab host: lets the other side of a gate see what an agent does.

Put in place as /usr/bin/python3, which is a link to python3.11 there. It installs a seccomp filter
that reports some system calls (seccomp_unotify(2)), hands the listener to the gate through
a Unix socket, and becomes the Python that was asked for. The product does not know of it; without
a gate at the other end it does nothing at all.
"""

import array
import ctypes
import os
import socket
import struct
import sys

REAL = "/usr/bin/python3.11"
SOCKET = "/var/lib/lab-gate/socket"
AGENT_OPTIONS = ["-E", "-s", "-S", "-c"]
AGENT_PROGRAM = "exec("

# x86-64. rename, renameat, renameat2, fsync, fdatasync, execve, execveat: always reported.
ALWAYS = (82, 264, 316, 74, 75, 59, 322)
WRITE = 1  # reported for descriptors above stderr
LOAD, EQUAL, GREATER, RETURN = 0x20, 0x15, 0x25, 0x06
ALLOW, NOTIFY = 0x7FFF0000, 0x7FC00000
SYS_SECCOMP, SET_MODE_FILTER, NEW_LISTENER = 317, 1, 8


class Program(ctypes.Structure):
    """struct sock_fprog."""

    _fields_ = [("length", ctypes.c_ushort), ("code", ctypes.c_void_p)]


def filter_code() -> bytes:
    """A BPF program over struct seccomp_data (number at 0, first argument at 16)."""
    rows = [(LOAD, 0, 0, 0)]
    left = len(ALWAYS)
    for number in ALWAYS:  # on a match: to the notification, which is the last row
        rows.append((EQUAL, left + 3, 0, number))
        left -= 1
    rows += [
        (EQUAL, 0, 2, WRITE),
        (LOAD, 0, 0, 16),
        (GREATER, 1, 0, 2),
        (RETURN, 0, 0, ALLOW),
        (RETURN, 0, 0, NOTIFY),
    ]
    return b"".join(struct.pack("HBBI", *row) for row in rows)


def install() -> int:
    """Install the filter; the listener's descriptor."""
    code = filter_code()
    kept = ctypes.create_string_buffer(code)
    program = Program(len(code) // 8, ctypes.addressof(kept))
    libc = ctypes.CDLL(None, use_errno=True)
    found = int(libc.syscall(SYS_SECCOMP, SET_MODE_FILTER, NEW_LISTENER, ctypes.byref(program)))
    if found < 0:
        raise OSError(ctypes.get_errno(), "seccomp")
    return found


def main() -> None:
    """Be watched, where a gate is there; become the real Python in any case."""
    if sys.argv[1:5] == AGENT_OPTIONS and sys.argv[5].startswith(AGENT_PROGRAM):
        gate = socket.socket(socket.AF_UNIX)
        try:
            gate.connect(SOCKET)
        except OSError:
            pass
        else:
            listener = install()
            passed = array.array("i", [listener])
            gate.sendmsg([b"+"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, passed)])
            gate.recv(1)  # until the other side has it
            os.close(listener)
        gate.close()
    os.execv(REAL, [REAL, *sys.argv[1:]])


if __name__ == "__main__":
    main()

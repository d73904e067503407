"""Starts ahead of knowing the function.

The interpreter loads what it can, writes the line "ready" to the descriptor, and waits for one line of JSON on it:
{"env": {...}, "cwd": "..."}. The environment replaces its own; then it goes on as if it had been started so. A pipe will do
as well as a socket, only that nobody is told "ready". If the descriptor ends first, the function never came: it exits.
"""

import os
import sys
import time

# What functions import most, loaded while nobody waits.
import datetime
import decimal
import json
import logging
import traceback

from . import codec, faults


def wait(fd):
    os.set_inheritable(fd, False)
    try:
        os.write(fd, b"ready\n")
    except OSError:
        pass
    data = b""
    while not data.endswith(b"\n"):
        part = os.read(fd, 65536)
        if not part:
            sys.exit(0)
        data += part
    os.close(fd)
    message = codec.decode(data)
    os.environ.clear()
    os.environ.update(message["env"])
    time.tzset()
    os.chdir(message["cwd"])

"""Run `python -m MODULE ARGS` in a fork of tests/warm_start.py: python -S -E tests/warm_call.py SOCKET MODULE ARGS..."""

import json
import os
import signal
import socket
import sys
from pathlib import Path

with socket.socket(socket.AF_UNIX) as server:
    server.connect(sys.argv[1])
    wanted = {"args": sys.argv[2:], "cwd": str(Path.cwd()), "environment": dict(os.environ)}
    socket.send_fds(server, [json.dumps(wanted).encode() + b"\n"], [0, 1, 2])
    for number in (0, 1):
        os.close(number)  # the command alone holds the pipes
    answer = server.recv(16)
code = int(answer or 70)
if code < 0:
    if -code != signal.SIGKILL:  # which has no handler that could be taken away
        signal.signal(-code, signal.SIG_DFL)
    os.kill(os.getpid(), -code)
sys.exit(code)

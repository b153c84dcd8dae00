"""`python -m kps.supervisor`. The template of the children is forked off first, while nothing else is there."""

import os
import signal
import sys

while (_descriptor := os.open(os.devnull, os.O_RDWR)) < 3:
    # Whoever starts us without stdin, stdout or stderr: no file or pipe of ours may stand in their place.
    os.set_inheritable(_descriptor, True)
os.close(_descriptor)

# Whoever starts us may ignore the ends of children: then nobody would learn an exit code.
signal.signal(signal.SIGCHLD, signal.SIG_DFL)
for harmless in (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
    # Until there is a handler: a deploy script's HUP in the first moments must not end us.
    signal.signal(harmless, signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_SETMASK, [])  # or block signals: then we would hear none

if __name__ == "__main__":
    from kps.supervisor.template import first

    _template = first()

    from kps.supervisor.main import main

    sys.exit(main(_template))

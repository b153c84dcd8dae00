"""`python -m kps.supervisor`. The template of the children is forked off first, while nothing else is there."""

import os
import signal
import sys

while (_descriptor := os.open(os.devnull, os.O_RDWR)) < 3:
    # We may be started without stdin, stdout or stderr: no file or pipe of ours may get their numbers.
    os.set_inheritable(_descriptor, True)
os.close(_descriptor)

# We may have inherited that ends of children are ignored: then no exit code could be read.
signal.signal(signal.SIGCHLD, signal.SIG_DFL)
for harmless in (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
    # Until there is a handler: a deploy script's HUP in the first moments must not end us.
    signal.signal(harmless, signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_SETMASK, [])  # we may have inherited a mask: then no signal would arrive

if __name__ == "__main__":
    from kps.supervisor.template import first

    _template = first()

    from kps.supervisor.main import main

    sys.exit(main(_template))

"""``python hosts_child.py CALL ARGUMENT...``: palaver on one of several hosts, which kills itself.

It does so as it calls ``hosts.gather`` for the CALL-th time: the first is the comparison of the hosts' data, and each
evaluation is another. CALL 0 is never; with -1 the hosts have two seconds to meet.
"""

import os
import signal
import sys

from palaver import __main__
from palaver.studies import hosts


def main(last: int) -> int:
    """Runs palaver, and ends this process as soon as ``hosts.gather`` is called for the ``last`` time."""
    calls, gather = 0, hosts.gather

    def fatal(values):
        nonlocal calls
        calls += 1
        if calls == last:
            os.kill(os.getpid(), signal.SIGKILL)
        return gather(values)

    hosts.gather, hosts._PATIENCE = fatal, 2 if last < 0 else 120
    return __main__.main()


if __name__ == "__main__":
    call = int(sys.argv[1])
    sys.argv = ["palaver", *sys.argv[2:]]
    sys.exit(main(call))

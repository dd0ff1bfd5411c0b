"""``python hosts_child.py SIGNAL CALL ARGUMENT...``: palaver on one of several hosts, which sends itself a signal.

It does so as it calls ``hosts.gather`` for the CALL-th time: the first is the comparison of the hosts' data, and each
evaluation is another. CALL 0 is never; with -1 the hosts have two seconds to meet.
"""

import os
import sys

from palaver import __main__
from palaver.studies import hosts

calls, gather = 0, hosts.gather


def signalling(values):
    global calls
    calls += 1
    if calls == number:
        os.kill(os.getpid(), signal)
    return gather(values)


signal, number = map(int, sys.argv[1:3])
hosts.gather, hosts._PATIENCE = signalling, 2 if number < 0 else 120
sys.argv = ["palaver", *sys.argv[3:]]
sys.exit(__main__.main())

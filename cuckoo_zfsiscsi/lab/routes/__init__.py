"""Where the emulated host's traffic may go in a run: CAPE's routes, and what they lead to.

CAPE's server stands beside the hosts' network with a leg in it, the hosts' gateway. Behind it are
an internet, with a C2 server, and INetSim, a simulated one. Each is a network namespace, and no
packet leaves the machine.
"""

"""The storage appliance: an emulated server with real ZFS and LIO, which this machine may lack.

It runs our tests, and later our service, as root on a kernel of its own. The checkout is seen
inside at the same path, as it is now.
"""

"""What runs inside CAPE's process: the standard library and requests, Python 3.10 syntax."""

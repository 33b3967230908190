"""The lab: an emulated physical host, its BMC, its network. It knows everything, nothing knows it.

This module imports nothing: the BMC starts lab.chassis for every command and waits for it.
"""

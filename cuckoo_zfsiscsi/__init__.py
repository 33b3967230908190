"""Physical machines as drop-in replacements for VMs in CAPE, clean at each run."""

__version__ = "0.1.0"

"""Disks: images and their clones (store), their export by iSCSI (target), and the reset."""

"""The service: owns hosts, disks, power and the boot scripts."""

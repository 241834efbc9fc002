"""The machine: its devices, random numbers and disks."""

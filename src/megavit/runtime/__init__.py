"""Runtime utilities: devices, process groups, random seeds, and files."""

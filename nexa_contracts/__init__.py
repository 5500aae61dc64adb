"""Values that cross a process: what programs inside and outside a job agree on."""

"""The script of the ranks is no test, nor does it import as one."""

collect_ignore = ["cases.py"]

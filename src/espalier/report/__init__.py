"""One self-contained HTML page from run folders: what was asked, what was got, and the evidence."""

from espalier.report._write import write_report

__all__ = ["write_report"]

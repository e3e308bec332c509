"""Reports: one HTML file for a run or for a comparison, without any other file or network."""

REPORT = "report.html"
"""File of a report, in the folder that it is about."""

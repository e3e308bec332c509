"""Reports: one HTML file for a run or for a comparison, without any other file or network."""

"""Reports about outputs: charts, the HTML page, lineage and diagnosis."""

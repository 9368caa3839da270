"""The journal, the charges and their totals, on disk. Imports the domain only; what things cost is decided elsewhere."""

"""What the meter charges against what a request truly took of the engine: mixes, runs, rules, errors, and the table."""

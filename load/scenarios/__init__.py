"""Published figures restated: `jeton load scenarios` (`make scenarios`) reckons each again with jeton's own engine and prices.

A file in `published/` says what was published and where, how it is reckoned here (`cases.py` runs that), what came of it, and
why it differs where it does. `claim.py` has the files' shape, `sites.py` the arithmetic of many small clusters against a large
one, `table.py` writes docs/scenarios.md.
"""

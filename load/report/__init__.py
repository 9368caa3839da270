"""`--report FILE` of `jeton load drive`, `simulate` and `compare`: a run as one HTML page that needs nothing else.

Style and plots are those of `jeton report` (`router/reporting`): matplotlib's SVG in the page's own colours, light, dark and on
paper. `plots.py` draws, `pages.py` writes.
"""

"""PromQL as jeton's metrics want it. Strings in, strings out; no panels.

The money counters are the ledger's: they go on over restarts, and of several workers one shows them, another after it. So what
was spent in a time is a plain difference, exact where `increase()` extrapolates. Everything else is counted by each process for
itself: sums of `rate()`.
"""

JOB = 'job=~"$job"'
BACKEND = f'{JOB},backend=~"$backend"'
PLACE = f'{JOB},pool=~"$pool",backend=~"$backend"'
TENANT = f'{JOB},tenant=~"$tenant"'
ACCOUNT = f'{PLACE},model=~"$model",tier=~"$tier",tenant=~"$tenant"'
# Both are whole: cached tokens are a part of the prompt's, reasoning is a part of the completion's.
LANGUAGE = 'class=~"prompt|completion"'

PER_MILLION = "1e6 * "
SECONDS_PER_HOUR, SECONDS_PER_DAY = 3600, 86_400


def where(name: str, *conditions: str) -> str:
    """A selector: `where("jeton_x", PLACE, 'basis="allocated"')`."""
    return f"{name}{{{','.join(conditions)}}}"


def total(selector: str, *by: str, operation: str = "sum") -> str:
    """What it is now; of a money counter: since the ledger began."""
    return f"{_over(operation, by)}({selector})"


def spent(selector: str, *by: str) -> str:
    """By how much a counter or gauge of the ledger has risen in the time shown: exact, with no extrapolation.

    Where jeton was watched at the beginning of that time but had no such series yet, it began at 0; where nobody watched, the
    first value that was seen stands for the beginning.
    """
    at_first = f"{selector} offset $__range"
    new = f"{total(selector, *by)} * 0 and on() ({where('jeton_build_info', JOB)} offset $__range)"
    seen = f"min_over_time({selector}[$__range])"
    return f"({total(selector, *by)} - ({total(at_first, *by)} or ({new}) or {total(seen, *by)}))"


def pace(selector: str, *by: str) -> str:
    """How fast a gauge of the ledger rises or falls, per second."""
    return f"{_over('sum', by)}(deriv({selector}[$__rate_interval]))"


def rate(selector: str, *by: str) -> str:
    """How fast a counter rises, per second, over all processes."""
    return f"{_over('sum', by)}(rate({selector}[$__rate_interval]))"


def risen(selector: str, *by: str) -> str:
    """By how much a counter has risen between two points of a graph, over all processes: for what is rare."""
    return f"{_over('sum', by)}(increase({selector}[$__rate_interval]))"


def share(part: str, whole: str) -> str:
    """0 to 1; nothing where there is no whole."""
    return f"{part} / ({whole} > 0)"


def share_of_all(parts: str, whole: str) -> str:
    """The same for several parts of one whole, which has no labels."""
    return f"{parts} / on () group_left () ({whole} > 0)"


def quantile(ratio: float, name: str, conditions: str, *by: str) -> str:
    """Of a histogram, over the last minutes."""
    return f"histogram_quantile({ratio:g}, {rate(where(f'{name}_bucket', conditions), 'le', *by)})"


def _over(operation: str, by: tuple[str, ...]) -> str:
    return f"{operation} by ({', '.join(by)}) " if by else operation

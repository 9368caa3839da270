"""From a request to its ranked candidates: scope, eligibility, policy loader. Pure; imports `domain` and `pricing`."""

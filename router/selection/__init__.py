"""From a request to its ranked candidates: scope, eligibility, forecasts, the policy loader. Pure; imports `domain` and `pricing`."""

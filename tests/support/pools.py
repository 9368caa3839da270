"""One pool of each kind, for candidates that are made by hand."""

from router.domain.fleet import Billing, Pool, PoolKind

EDGE = Pool("edge", PoolKind.EDGE, Billing.LEASED)
CENTRAL = Pool("central", PoolKind.CENTRAL, Billing.LEASED)
CLOUD = Pool("cloud", PoolKind.CLOUD, Billing.METERED)

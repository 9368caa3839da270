"""SkyPilot's catalogue (`catalogs/v*/<cloud>/vms.csv`): instances with GPUs, US dollars per hour, on demand and spot.

An instance with GPUs is a `lease` of one replica that has all of them. Instances without are left out: they are not priced by
GPU. The cloud is the folder's name, which the file itself does not say.
"""

import csv
from collections.abc import Iterator, Mapping
from decimal import Decimal
from io import StringIO

from router.pricing.tables.offer import Offer, TableRefused, amount, rounded

COLUMNS = {"InstanceType", "AcceleratorName", "AcceleratorCount", "Price", "SpotPrice", "Region"}


def is_like(text: str) -> bool:
    return set(text.partition("\n")[0].strip().lstrip("\ufeff").split(",")) >= COLUMNS


def read(text: str, cloud: str) -> Iterator[Offer | None]:
    """Each instance's price on demand, then its spot price; None for one without GPUs, or without a price."""
    if not is_like(text):
        raise TableRefused(f"has not the columns {', '.join(sorted(COLUMNS))} in its first line")
    for row in csv.DictReader(StringIO(text.lstrip("\ufeff"))):
        if not row["AcceleratorName"] or not row["Region"]:
            yield None
            continue
        place = row["Region"]
        yield _offer(row, cloud, f"{cloud}/{row['InstanceType']}/{place}", "on_demand", row["Price"])
        # Spot prices differ by zone where a cloud has zones.
        place = row.get("AvailabilityZone") or place
        yield _offer(row, cloud, f"{cloud}/{row['InstanceType']}/{place}/spot", "spot", row["SpotPrice"])


def _offer(row: Mapping[str, str], cloud: str, name: str, purchase: str, price: str) -> Offer | None:
    if not price:
        return None
    usd, gpus, gpu = rounded(amount(price)), amount(row["AcceleratorCount"]), row["AcceleratorName"]
    faults = []
    if not (gpus.is_finite() and gpus == gpus.to_integral_value() and gpus >= 1):
        faults.append(f"has {row['AcceleratorCount'] or 'no number of'} GPUs; prices.yaml needs whole ones")
        gpus = Decimal(1)
    if purchase == "spot":
        on_demand = amount(row["Price"])
        if on_demand.is_finite() and usd.is_finite() and usd >= on_demand > 0:
            faults.append(f"is no cheaper than on demand ({on_demand:f} USD an hour)")
    return Offer(
        name=name,
        kind="lease",
        figures={"usd_per_hour": usd},
        seller=cloud.lower(),
        product=gpu,
        purchase=purchase,
        gpu=gpu,
        gpus=int(gpus),
        makes_text=False,
        faults=tuple(faults),
    )

"""The load laboratory: workloads in, an emulated or simulated fleet under them, dollars out."""

import router  # noqa: F401  (what is compiled of it is found from then on)

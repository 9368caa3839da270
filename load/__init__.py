"""The load laboratory: workloads in, an emulated or simulated fleet under them, dollars out."""

import router  # what is compiled of `load.engine` is found by it

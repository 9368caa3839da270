"""The load laboratory: workloads in, an emulated or simulated fleet under them, dollars out."""

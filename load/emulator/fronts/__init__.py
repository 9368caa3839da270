"""What stands before an emulated engine that somebody else runs: a provider's paths, keys, shapes and refusals, one file each."""

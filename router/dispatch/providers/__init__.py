"""One file for each provider; its name is what `provider` says in router.yaml, its class the same in CamelCase."""

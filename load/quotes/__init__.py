"""How near quotes come to what is then seen and charged: `jeton quotes`."""

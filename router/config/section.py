"""What the sections of router.yaml are made of: their base, and how names and addresses are written in all of them."""

from pydantic import BaseModel

NAME = r"^[A-Za-z0-9][A-Za-z0-9._/:@-]{0,99}$"
URL = r"^https?://[^\s/?#@]+(/[^\s?#]*)?$"
REDIS_URL = r"^rediss?://[^\s/?#@]+(/[0-9]{1,4})?$"
# As libpq has it, with a user and without a password.
POSTGRES_URL = r"^postgres(ql)?://([^\s/?#@:]+@)?[^\s/?#@]*/[^\s/?#]+(\?[^\s#]*)?$"
HOST = r"^(\*|[a-z0-9_][a-z0-9._-]{0,252}|[0-9a-f:.]*:[0-9a-f:.]*)$"  # in lower case; an IPv6 address without brackets
DNS_NAME = r"^[A-Za-z0-9_]([A-Za-z0-9._-]{0,251}[A-Za-z0-9])?\.?$"
ENVIRONMENT_NAME = r"^[A-Z][A-Z0-9_]*$"  # capitals only: a key put here by mistake rarely passes for a name


class Shape(BaseModel):
    """What every section has in common: immutable, and no unknown member passes."""

    model_config = {"frozen": True, "extra": "forbid"}

"""Alembic's way in: on the connection that `schema.py` hands over, in the transaction that it has begun."""

from alembic import context

context.configure(connection=context.config.attributes["connection"])
with context.begin_transaction():
    context.run_migrations()

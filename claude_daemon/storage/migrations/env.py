"""Alembic's entry: run the steps on the connection that `storage.store` hands over."""

from alembic import context

from claude_daemon.storage.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,  # SQLite alters a table by copying it
    transactional_ddl=True,  # a crash half-way leaves the schema as it was
)
with context.begin_transaction():
    context.run_migrations()

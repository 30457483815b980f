"""The schema: what the migrations make is what the code believes."""

import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

import claude_daemon.storage
from claude_daemon.config import StorageSettings
from claude_daemon.storage import tables
from claude_daemon.storage.store import Store

NAME = "claude-daemon.db"


def schema(path: Path) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute("SELECT type, name, sql FROM sqlite_schema ORDER BY name").fetchall()


def test_head_is_the_newest_migration() -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(claude_daemon.storage.__file__).parent / "migrations"))
    config.set_main_option("path_separator", "os")

    assert ScriptDirectory.from_config(config).get_heads() == [tables.HEAD]


async def test_the_migrated_schema_is_that_of_the_tables(tmp_path: Path) -> None:
    async with Store(StorageSettings(), tmp_path):
        pass

    with sa.create_engine(f"sqlite:///{tmp_path / NAME}").connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, tables.metadata) == []


async def test_a_second_start_changes_nothing(tmp_path: Path) -> None:
    async with Store(StorageSettings(), tmp_path):
        pass
    first = schema(tmp_path / NAME)

    async with Store(StorageSettings(), tmp_path):
        pass

    assert schema(tmp_path / NAME) == first


async def test_a_migration_that_breaks_off_leaves_the_database_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from alembic import op

    create = op.create_table

    def fail(name: str, *arguments: Any, **options: Any) -> Any:
        if name == "commands":
            raise KeyboardInterrupt
        return create(name, *arguments, **options)

    monkeypatch.setattr(op, "create_table", fail)
    with pytest.raises(KeyboardInterrupt):
        async with Store(StorageSettings(), tmp_path):
            pass
    assert schema(tmp_path / NAME) == []

    monkeypatch.undo()
    async with Store(StorageSettings(), tmp_path):
        pass
    assert len(schema(tmp_path / NAME)) > 10


def test_a_start_without_a_migration_does_not_pay_for_alembic(tmp_path: Path) -> None:
    import subprocess

    start = (
        "import asyncio, sys\n"
        "from pathlib import Path\n"
        "from claude_daemon.config import StorageSettings\n"
        "from claude_daemon.storage.store import Store\n"
        "async def main():\n"
        "    async with Store(StorageSettings(), Path(sys.argv[1])):\n"
        "        print('alembic' in sys.modules)\n"
        "asyncio.run(main())\n"
    )
    command = [sys.executable, "-c", start, str(tmp_path)]

    assert [subprocess.check_output(command, text=True) for _ in range(2)] == ["True\n", "False\n"]

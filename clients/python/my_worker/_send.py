"""Puts jobs into the queue, in the transaction of the caller's connection."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Coroutine, Mapping, TypedDict, Union, overload

from psycopg import AsyncConnection, Connection
from psycopg.rows import tuple_row
from psycopg.types.json import Jsonb

if TYPE_CHECKING:
    from datetime import datetime, timedelta
    from typing import Iterable

    from typing_extensions import Unpack  # psycopg brings it where Python has none

Interval = Union["timedelta", str]
AnyConnection = Union["Connection[Any]", "AsyncConnection[Any]"]


class SendOptions(TypedDict, total=False):
    """The parameters that the SQL functions share; what is left out has their defaults."""

    kind: str
    headers: Any
    priority: int
    run_at: datetime
    max_attempts: int
    timeout: Interval
    unique_key: str
    unique_mode: str
    group_key: str
    after: list[int]
    after_failed: str
    expires_at: datetime


TYPES: Mapping[str, str] = {
    "handler": "text", "queue": "text", "payload": "jsonb", "payloads": "jsonb[]", "kind": "text",
    "headers": "jsonb", "priority": "integer", "run_at": "timestamptz", "max_attempts": "integer",
    "timeout": "interval", "unique_key": "text", "unique_mode": "text", "group_key": "text",
    "after": "bigint[]", "after_failed": "text", "expires_at": "timestamptz",
}  # fmt: skip


@overload
def send(conn: Connection[Any], queue: str, payload: Any = ..., **options: Unpack[SendOptions]) -> int: ...
@overload
def send(
    conn: AsyncConnection[Any], queue: str, payload: Any = ..., **options: Unpack[SendOptions]
) -> Coroutine[Any, Any, int]: ...
def send(conn: AnyConnection, queue: str, payload: Any = {}, **options: Any) -> Any:
    """Sends a job to a queue's consumers and returns its id. To be awaited if the connection is."""
    return _call(conn, "send", True, dict(options, queue=queue, payload=payload))


@overload
def send_many(
    conn: Connection[Any], queue: str, payloads: Iterable[Any], **options: Unpack[SendOptions]
) -> list[int]: ...
@overload
def send_many(
    conn: AsyncConnection[Any], queue: str, payloads: Iterable[Any], **options: Unpack[SendOptions]
) -> Coroutine[Any, Any, list[int]]: ...
def send_many(conn: AnyConnection, queue: str, payloads: Iterable[Any], **options: Any) -> Any:
    """Sends a job for each payload and returns their ids. To be awaited if the connection is."""
    return _call(conn, "send_many", False, dict(options, queue=queue, payloads=payloads))


@overload
def enqueue(
    conn: Connection[Any], handler: str, payload: Any = ..., queue: str = ..., **options: Unpack[SendOptions]
) -> int: ...
@overload
def enqueue(
    conn: AsyncConnection[Any], handler: str, payload: Any = ..., queue: str = ..., **options: Unpack[SendOptions]
) -> Coroutine[Any, Any, int]: ...
def enqueue(
    conn: AnyConnection, handler: str, payload: Any = {}, queue: str = "default", **options: Any
) -> Any:
    """Enqueues a call of a function in the server. To be awaited if the connection is."""
    return _call(conn, "enqueue", True, dict(options, handler=handler, payload=payload, queue=queue))


def _call(conn: AnyConnection, function: str, single: bool, given: dict[str, Any]) -> Any:
    values = {}
    for name, value in given.items():
        if name not in TYPES:
            raise TypeError(f"{function}() has no parameter {name!r}")
        if name == "payloads":
            value = [Jsonb(one) for one in value]
        elif name == "payload" or (name == "headers" and value is not None):
            value = Jsonb(value)
        if value is not None:
            values[name] = value
    arguments = ", ".join(f"{name} => %({name})s::{TYPES[name]}" for name in values)
    sql = f"SELECT * FROM my_worker.{function}({arguments})"
    if isinstance(conn, AsyncConnection):
        return _fetch_async(conn, sql, values, single)
    with conn.cursor(row_factory=tuple_row) as cursor:
        return _ids(cursor.execute(sql, values).fetchall(), single)


async def _fetch_async(conn: AsyncConnection[Any], sql: str, values: dict[str, Any], single: bool) -> Any:
    async with conn.cursor(row_factory=tuple_row) as cursor:
        return _ids(await (await cursor.execute(sql, values)).fetchall(), single)


def _ids(rows: list[tuple[Any, ...]], single: bool) -> Any:
    return rows[0][0] if single else [row[0] for row in rows]

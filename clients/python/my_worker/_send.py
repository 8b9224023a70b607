"""Puts jobs into the queue, in the transaction of the caller's connection."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Coroutine, TypedDict, Union, overload

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


@overload
def send(conn: Connection[Any], queue: str, payload: Any = ..., **options: Unpack[SendOptions]) -> int: ...
@overload
def send(
    conn: AsyncConnection[Any], queue: str, payload: Any = ..., **options: Unpack[SendOptions]
) -> Coroutine[Any, Any, int]: ...
def send(conn: AnyConnection, queue: str, payload: Any = {}, **options: Any) -> Any:
    """Sends a job to a queue's consumers and returns its id. To be awaited if the connection is."""
    return _call(conn, "send", True, options, queue=queue, payload=payload)


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
    return _call(conn, "send_many", False, options, queue=queue, payloads=[Jsonb(one) for one in payloads])


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
    return _call(conn, "enqueue", True, options, handler=handler, payload=payload, queue=queue)


def _call(conn: AnyConnection, function: str, single: bool, options: dict[str, Any], **given: Any) -> Any:
    for name in options.keys() - SendOptions.__annotations__.keys():
        raise TypeError(f"{function}() has no parameter {name!r}")
    given |= {name: value for name, value in options.items() if value is not None}
    for name in {"payload", "headers"} & given.keys():
        given[name] = Jsonb(given[name])
    casts = {"after": "::bigint[]", "payloads": "::jsonb[]"}
    arguments = ", ".join(f"{name} => %({name})s{casts.get(name, '')}" for name in given)
    sql = f"SELECT * FROM my_worker.{function}({arguments})"
    if isinstance(conn, AsyncConnection):
        return _fetch_async(conn, sql, given, single)
    with conn.cursor(row_factory=tuple_row) as cursor:
        return _ids(cursor.execute(sql, given).fetchall(), single)


async def _fetch_async(conn: AsyncConnection[Any], sql: str, values: dict[str, Any], single: bool) -> Any:
    async with conn.cursor(row_factory=tuple_row) as cursor:
        return _ids(await (await cursor.execute(sql, values)).fetchall(), single)


def _ids(rows: list[tuple[Any, ...]], single: bool) -> Any:
    return rows[0][0] if single else [row[0] for row in rows]

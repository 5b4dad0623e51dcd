"""Databases through Spin's SDK for Python."""

from spin_sdk import mysql, postgres, redis
from spin_sdk.http import IncomingHandler as Handler, Request, Response
from spin_sdk.wit.imports.rdbms_types import (
    ParameterValue_Binary,
    ParameterValue_DbNull,
    ParameterValue_Floating64,
    ParameterValue_Int64,
    ParameterValue_Str,
)
from spin_sdk.wit.imports.redis import RedisParameter_Binary, RedisParameter_Int64
from spin_sdk.wit.types import Err


class IncomingHandler(Handler):
    def handle_request(self, request: Request) -> Response:
        lines = (request.body or b"").decode().split("\n")
        answers = {
            "/": lambda: "Hello from the Spin SDK for Python\n",
            "/redis": lambda: of_redis(*lines),
            "/postgres": lambda: statements(postgres, *lines),
            "/mysql": lambda: statements(mysql, *lines),
        }
        answer = answers.get(request.uri)
        if answer is None:
            return text(404, "not found\n")
        try:
            return text(200, answer())
        except Err as error:
            return text(502, f"{shown(error.value)}\n")


def text(status, body):
    return Response(status, {"content-type": "text/plain"}, body.encode())


def of_redis(address, key, value):
    """What each kind of call returns."""
    with redis.open(address) as connection:
        connection.set(key, value.encode())
        got = connection.get(key).decode()
        missing = "none" if connection.get(f"{key}:none") is None else "some"
        connection.incr(f"{key}:n")
        counted = connection.incr(f"{key}:n")
        added = connection.sadd(f"{key}:set", ["a", "b"])
        members = ",".join(sorted(connection.smembers(f"{key}:set")))
        removed = connection.srem(f"{key}:set", ["a"])
        connection.publish(key, bytes([0, 255]))
        hash_key = RedisParameter_Binary(f"{key}:hash".encode())
        results = [
            *connection.execute("PING", []),
            *connection.execute("HSET", [hash_key, RedisParameter_Binary(b"f"), RedisParameter_Int64(7)]),
            *connection.execute("HGETALL", [hash_key]),
            *connection.execute("GET", [RedisParameter_Binary(f"{key}:none".encode())]),
        ]
        deleted = connection.del_([key, f"{key}:n", f"{key}:set", f"{key}:hash"])
    results = " ".join(map(shown, results))
    return f"{got}\n{missing} {counted}\n{added} {members} {removed}\n{results}\n{deleted}\n"


def statements(database, address, *lines):
    """Runs statements, those after `!` without rows; parameters follow after tabs."""
    told = []
    with database.open(address) as connection:
        for line in lines:
            statement, *given = line.split("\t")
            parameters = [parameter(one) for one in given]
            if statement.startswith("!"):
                connection.execute(statement[1:], parameters)
                continue
            rows = connection.query(statement, parameters)
            told.append(",".join(f"{column.name} {column.data_type.name.lower()}" for column in rows.columns))
            told.extend(",".join(map(shown, row)) for row in rows.rows)
    return "".join(f"{line}\n" for line in told)


def parameter(given):
    """A parameter: its kind, `:` and its value."""
    kind, _, value = given.partition(":")
    match kind:
        case "i":
            return ParameterValue_Int64(int(value))
        case "f":
            return ParameterValue_Floating64(float(value))
        case "b":
            return ParameterValue_Binary(value.encode())
        case "n":
            return ParameterValue_DbNull()
        case _:
            return ParameterValue_Str(value)


def shown(case):
    """One case of a variant: its name, and its value; bytes in hexadecimal digits."""
    name = type(case).__name__.partition("_")[2].lower()
    if not hasattr(case, "value"):
        return name
    return f"{name}:{case.value.hex() if isinstance(case.value, bytes) else case.value}"

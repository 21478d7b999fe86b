"""FastAPI + asyncpg + fastjsonschema under uvicorn (uvloop, httptools), one worker: what one would write by hand for one sender."""

import hashlib
import hmac
import json
import os
import sys
import time
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import asyncpg
import fastjsonschema
import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, PlainTextResponse, Response

PORT, DATABASE_URL, SECRET = int(sys.argv[1]), sys.argv[2], sys.argv[3].encode()
LOAD = Path(__file__).resolve().parent.parent
STORE, REPEATED = (LOAD / "store.sql").read_text(), (LOAD / "repeated.sql").read_text()
# Generated code, several times as fast as the `jsonschema` package; the schema keeps to what draft 7 and 2020-12 share.
check_schema = fastjsonschema.compile(json.loads((LOAD / "packs/github/schemas/push.json").read_text()))


@asynccontextmanager
async def with_pool(app: FastAPI):
    async with asyncpg.create_pool(DATABASE_URL, min_size=16, max_size=16, reset=leave_alone) as app.state.pool:
        yield


async def leave_alone(_connection) -> None:
    """No request changes its session, so that a reset of it, the default, is a round trip for nothing."""


app = FastAPI(lifespan=with_pool, openapi_url=None)


@app.get("/readyz")
async def readyz() -> Response:
    return PlainTextResponse("ready")


@app.post("/hook")
async def receive(request: Request) -> Response:
    started, received_at = time.perf_counter_ns(), datetime.now(UTC)
    body = await request.body()

    if not is_authentic(request.headers.get("x-hub-signature-256", ""), body):
        return Response(status_code=401)
    try:
        payload = json.loads(body)
    except ValueError:
        return Response(status_code=400)
    if request.headers.get("x-github-event") != "push":
        return JSONResponse({"data": {"ignored": True}})
    try:
        check_schema(payload)
    except fastjsonschema.JsonSchemaValueException:
        return Response(status_code=422)
    event = mapped(payload, request.headers.get("x-github-delivery"))
    event_id = await store(request, received_at, started, len(body), event)

    return JSONResponse(
        {
            "data": {
                "event_id": str(event_id),
                "trigger_ref": "github.push",
                "received_at": received_at.isoformat(),
                "message": "Webhook received successfully",
            }
        }
    )


def is_authentic(signature: str, body: bytes) -> bool:
    """Compares in constant time, over the bytes as they came."""
    right = "sha256=" + hmac.digest(SECRET, body, hashlib.sha256).hex()
    return hmac.compare_digest(signature.encode(), right.encode())


def mapped(payload: dict, delivery: str | None) -> dict:
    head = payload["head_commit"] or {}
    return {
        "source": "github",
        "delivery": delivery,
        "repository": payload["repository"]["full_name"],
        "private": payload["repository"]["private"],
        "branch": payload["ref"],
        "before": payload["before"],
        "after": payload["after"],
        "forced": payload["forced"],
        "compare_url": payload["compare"],
        "pusher": payload["pusher"]["name"],
        "head": {
            "id": head.get("id"),
            "message": head.get("message"),
            "author": head.get("author", {}).get("name", "unknown"),
        },
        "messages": [commit["message"] for commit in payload["commits"]],
    }


async def store(request: Request, received_at: datetime, started: int, body_bytes: int, event: dict) -> UUID:
    headers, source_ip = request.headers, request.client.host
    delivery, user_agent = headers.get("x-github-delivery"), headers.get("user-agent")
    metadata = {
        "source": "webhook",
        "request_id": str(uuid7()),
        "received_at": received_at.isoformat(),
        "source_ip": source_ip,
        "user_agent": user_agent,
        "headers": {
            "content-type": headers.get("content-type"),
            "user-agent": user_agent,
            "x-github-delivery": delivery,
            "x-github-event": headers.get("x-github-event"),
        },
    }
    microseconds = (time.perf_counter_ns() - started) // 1000
    logged = (delivery, received_at, source_ip, user_agent, body_bytes, microseconds)
    pool = request.app.state.pool
    stored = await pool.fetchval(STORE, *logged, uuid7(), json.dumps(event), json.dumps(metadata))
    return stored or await pool.fetchval(REPEATED, *logged)


def uuid7() -> UUID:
    """RFC 9562, section 5.7; the standard library has it from Python 3.14 on."""
    random = int.from_bytes(os.urandom(10))
    milliseconds = time.time_ns() // 1_000_000
    return UUID(int=milliseconds << 80 | 7 << 76 | (random >> 68) << 64 | 2 << 62 | random & (1 << 62) - 1)


if __name__ == "__main__":
    uvicorn.run(app, port=PORT, loop="uvloop", http="httptools", log_level="warning", access_log=False)

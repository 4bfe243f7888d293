"""The peer of the door: FastAPI with a plain redis-py pipeline.

`python -m bench.fastapi_peer REDIS_URL PORT`, until it is ended.

It is what the documentation of both shows: a model for an event, a list of them as the body, one XADD each in
a pipeline, and an answer once all are there. An id is drawn for each event, since the stream has to have one;
nothing is checked beyond the types, there is no record of what was published, and a repeat is another event.
uvicorn runs with httptools on asyncio's own loop and without a line for each request, as the door has it.
"""

import sys
import uuid
from typing import Annotated, Any

import uvicorn
from fastapi import Body, FastAPI
from pydantic import BaseModel
from redis.asyncio import Redis

from bench.stream import KEYS


class Event(BaseModel):
    """An event as it is sent."""

    device_id: str
    zone: str
    ts: float
    kpi: str
    value: float


def build(url: str) -> FastAPI:
    """Build the application."""
    app, client = FastAPI(), Redis.from_url(url)

    @app.post("/v1/events")
    async def publish(events: Annotated[list[Event], Body()]) -> dict[str, int]:
        pipeline = client.pipeline(transaction=False)
        for event in events:
            fields: dict[Any, Any] = {"event_id": str(uuid.uuid4()), **event.model_dump()}
            pipeline.xadd(KEYS.stream, fields)
        await pipeline.execute()
        return {"published": len(events)}

    return app


if __name__ == "__main__":
    uvicorn.run(
        build(sys.argv[1]),
        host="127.0.0.1",
        port=int(sys.argv[2]),
        loop="asyncio",
        http="httptools",
        access_log=False,
    )

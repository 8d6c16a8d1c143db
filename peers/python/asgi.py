"""The contract's paths as a Starlette application, for the ASGI servers."""

import asyncio
import time

from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocketDisconnect


def number(request, name):
    return int(request.query_params[name])


async def root(request):
    return PlainTextResponse("ok")


async def sleep(request):
    await asyncio.sleep(number(request, "ms") / 1000)
    return PlainTextResponse("slept")


async def block(request):
    time.sleep(number(request, "ms") / 1000)
    return PlainTextResponse("slept")


async def stream(request):
    async def chunks(count, ms):
        for n in range(count):
            if ms > 0:
                await asyncio.sleep(ms / 1000)
            yield f"chunk{n}\n"

    return StreamingResponse(chunks(number(request, "chunks"), number(request, "ms")), media_type="text/plain")


async def events(request):
    async def ticks():
        while True:
            yield "data: x\n\n"
            await asyncio.sleep(0.1)

    return StreamingResponse(ticks(), media_type="text/event-stream")


async def echo(request):
    length = 0
    async for piece in request.stream():
        length += len(piece)
    return PlainTextResponse(str(length))


async def task(request):
    async def work(ms):
        await asyncio.sleep(ms / 1000)
        print("task done", flush=True)

    # It runs after the answer is sent, and is the server's to wait for.
    return PlainTextResponse("", 202, background=BackgroundTask(work, number(request, "ms")))


async def messages(socket):
    await socket.accept()
    try:
        while (message := await socket.receive())["type"] == "websocket.receive":
            if message.get("text") is not None:
                await socket.send_text(message["text"])
            else:
                await socket.send_bytes(message["bytes"])
    except WebSocketDisconnect:
        pass


async def panic(request):
    raise RuntimeError("as asked by GET /panic")


app = Starlette(
    routes=[
        Route("/", root),
        Route("/sleep", sleep),
        Route("/block", block),
        Route("/stream", stream),
        Route("/sse", events),
        Route("/echo", echo, methods=["POST"]),
        Route("/task", task, methods=["POST"]),
        WebSocketRoute("/ws", messages),
        Route("/panic", panic),
    ]
)

"""The contract's paths as a WSGI application: no WebSocket, which WSGI does not have, and no task, which it does not know."""

import time
from urllib.parse import parse_qs


def app(environ, start_response):
    path, query = environ["PATH_INFO"], parse_qs(environ["QUERY_STRING"])

    def number(name):
        return int(query[name][0])

    if path == "/":
        return text(start_response, "ok")
    if path in ("/sleep", "/block"):
        time.sleep(number("ms") / 1000)
        return text(start_response, "slept")
    if path == "/stream":
        start_response("200 OK", [("Content-Type", "text/plain")])
        return chunks(number("chunks"), number("ms"))
    if path == "/sse":
        start_response("200 OK", [("Content-Type", "text/event-stream")])
        return ticks()
    if path == "/echo":
        length = 0
        while piece := environ["wsgi.input"].read(65536):
            length += len(piece)
        return text(start_response, str(length))
    if path == "/panic":
        raise RuntimeError("as asked by GET /panic")
    return text(start_response, "no such path", "404 Not Found")


def text(start_response, body, status="200 OK"):
    start_response(status, [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body.encode()]


def chunks(count, ms):
    for n in range(count):
        if ms > 0:
            time.sleep(ms / 1000)
        yield f"chunk{n}\n".encode()


def ticks():
    while True:
        yield b"data: x\n\n"
        time.sleep(0.1)

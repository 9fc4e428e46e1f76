"""A chat with Python `websockets`: whatever one says, all of this server hear. Usage: PORT=9001 python server.py"""

import asyncio
import json
import os
import signal
from http import HTTPStatus

from websockets.asyncio.server import broadcast, serve

PORT = int(os.environ["PORT"])
CAPACITY = 1000
clients = set()
draining = asyncio.Event()


def heartbeat(connection, request):
    """Answers what is no handshake."""
    if request.path != "/heartbeat":
        return None
    state = "draining" if draining.is_set() else "ready"
    body = json.dumps({"sessions": len(clients), "capacity": CAPACITY, "state": state})
    response = connection.respond(HTTPStatus.OK, body)
    del response.headers["Content-Type"]
    response.headers["Content-Type"] = "application/json"
    return response


async def chat(socket):
    clients.add(socket)
    try:
        async for text in socket:
            broadcast(clients, text)
    finally:
        clients.discard(socket)


async def main():
    # Holdline sees `draining`, sends nobody new, and moves those who are here. Then we go.
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, draining.set)
    async with serve(chat, "127.0.0.1", PORT, process_request=heartbeat, max_size=4096):
        print(f"listens on {PORT}", flush=True)
        await draining.wait()
        while clients:
            await asyncio.sleep(0.2)


asyncio.run(main())

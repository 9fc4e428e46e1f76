"""Says a word whenever it has come in, tells when it is moved, and leaves once it has come back. Usage: python client.py URL"""

import asyncio
import sys

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed


async def main(url):
    word = "hello"
    # It reconnects by itself, after growing intervals: a crowd must not come back as one.
    async for socket in connect(url):
        try:
            await socket.send(word)
            print(f"heard {await socket.recv()}", flush=True)
            if word == "back":
                return
            await socket.recv()
        except ConnectionClosed as closed:
            print(f"closed with {closed.rcvd.code if closed.rcvd else 'nothing'}", flush=True)
            word = "back"


asyncio.run(main(sys.argv[1]))

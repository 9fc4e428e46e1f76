"""Python `websockets`: opens N sessions through Holdline, talks on each, and waits to be told to go.

Usage: websockets_client.py URL N MODE
MODE `echo`: talk and leave. MODE `drain`: print `ready` once all are open, then expect Close 1012 on each.
"""

import asyncio
import sys

import websockets


async def one(url, mode, opened):
    async with websockets.connect(url) as socket:
        session = socket.response.headers["Holdline-Session"]
        assert len(session) == 16, session
        for size in (0, 1, 125, 126, 4000):
            text = "x" * size
            await socket.send(text)
            heard = await asyncio.wait_for(socket.recv(), 10)
            assert heard == text, (size, heard)
        pong = await socket.ping(b"are you there")
        await asyncio.wait_for(pong, 10)
        opened.release()
        if mode == "drain":
            try:
                await asyncio.wait_for(socket.recv(), 60)
                raise AssertionError("a message instead of a Close")
            except websockets.ConnectionClosed as closed:
                assert closed.rcvd.code == 1012, closed
                return
    assert socket.close_code == 1000, socket.close_code


async def main(url, count, mode):
    opened = asyncio.Semaphore(0)
    tasks = [asyncio.create_task(one(f"{url}?room=py{i}", mode, opened)) for i in range(count)]
    for _ in range(count):
        await opened.acquire()
    print("ready", flush=True)
    await asyncio.gather(*tasks)
    print("done", flush=True)


asyncio.run(asyncio.wait_for(main(sys.argv[1], int(sys.argv[2]), sys.argv[3]), 120))

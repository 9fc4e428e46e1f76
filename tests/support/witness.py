"""A child that is watched: it holds a connection to the test for as long as any of its processes lives."""
import os
import signal
import socket
import sys

port, mode = int(sys.argv[1]), sys.argv[2]
if "stubborn" in mode:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
witness = socket.create_connection(("127.0.0.1", port))
if "listens=" in mode:
    server = socket.create_server(("127.0.0.1", int(mode.split("listens=")[1])))
leader = True
told, tell = os.pipe()
if "family" in mode:
    leader = os.fork() != 0
    if not leader and "escaped" in mode:
        os.setsid()
if leader and "leaves" in mode:
    # The rest of the family stays behind, once it was seen: it is ended as soon as the leader has left.
    os.read(told, 1)
    os._exit(7)
if leader:
    print("a line for the log", flush=True)
if not ("family" in mode and leader):
    witness.sendall(f"{os.getpid()} {' '.join(sys.argv[3:])} {os.environ.get('HOLDLINE_BACKEND_ID')}\n".encode())
os.write(tell, b".")
while True:
    signal.pause()

"""Holds a listening socket as systemd does, and runs a server on it, again after each good end.

    activate.py FOLDER COMMAND...     writes FOLDER/port, and FOLDER/server for each server
"""
import os
import signal
import socket
import sys

folder, command = sys.argv[1], sys.argv[2:]
listener = socket.create_server(("127.0.0.1", 0), backlog=512)


def write(name, number):
    with open(f"{folder}/{name}.new", "w") as out:
        out.write(str(number))
    os.rename(f"{folder}/{name}.new", f"{folder}/{name}")


def serve():
    os.dup2(listener.fileno(), 3)
    os.set_inheritable(3, True)
    os.environ["LISTEN_PID"] = str(os.getpid())
    os.environ["LISTEN_FDS"] = "1"
    os.execv(command[0], command)


def stop(_signal, _frame):
    os.kill(server, signal.SIGTERM)
    os.waitpid(server, 0)
    sys.exit(0)


write("port", listener.getsockname()[1])
while True:
    server = os.fork()
    if server == 0:
        serve()
    signal.signal(signal.SIGTERM, stop)
    write("server", server)
    if os.waitpid(server, 0)[1] != 0:
        sys.exit("the server failed")

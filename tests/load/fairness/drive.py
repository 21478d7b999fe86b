#!/usr/bin/env python3
"""One polite sender beside one flood: latencies of the polite one, idle and in each flood. See README.md."""

import argparse
import hashlib
import hmac
import json
import os
import selectors
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

SECRET = "It's a Secret to Everybody"
TRIGGER = """name: NAME
ref: t.NAME
type: webhook
payload_schema: {}
webhook: {enabled: true, preset: github, secrets: [secret]}
"""


def sign(body):
    return "sha256=" + hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()


def request(path, body, signature, pad=0):
    head = (
        f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
        f"x-hub-signature-256: {signature}\r\nx-pad: {'x' * pad}\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


class Flood:
    """Closed loop over many connections from one address, in a process of its own."""

    def __init__(self, address, message, connections, source):
        self.arguments = (address, message, connections, source)

    def run(self):
        address, message, connections, source = self.arguments
        selector = selectors.DefaultSelector()
        counts, open_count = {}, 0
        deadline = time.monotonic() + float(os.environ["FLOOD_SECONDS"])

        def connect():
            stream = socket.socket()
            stream.setblocking(False)
            stream.bind((source, 0))
            stream.connect_ex(address)
            selector.register(stream, selectors.EVENT_WRITE, [message, 0])

        def close(stream):
            selector.unregister(stream)
            stream.close()

        pending = 0
        while time.monotonic() < deadline:
            while open_count < connections and pending < 200:
                try:
                    connect()
                except OSError:
                    break
                open_count += 1
                pending += 1
            pending = 0
            for key, _ in selector.select(0.05):
                stream, state = key.fileobj, key.data
                try:
                    if key.events & selectors.EVENT_WRITE:
                        state[1] += stream.send(state[0][state[1] : state[1] + 262144])
                        if state[1] == len(state[0]):
                            selector.modify(stream, selectors.EVENT_READ, state)
                    else:
                        answer = stream.recv(65536)
                        if not answer:
                            raise OSError
                        status = answer[9:12].decode()
                        counts[status] = counts.get(status, 0) + 1
                        if b"connection: close" in answer:
                            raise OSError
                        state[1] = 0
                        selector.modify(stream, selectors.EVENT_WRITE, state)
                except OSError:
                    counts["closed"] = counts.get("closed", 0) + 1
                    close(stream)
                    open_count -= 1
        print(json.dumps(counts), flush=True)


def polite(address, path, seconds, pause=0.02, source="127.0.0.2"):
    latencies, statuses, number = [], {}, 0
    stream = None
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        number += 1
        body = json.dumps({"n": number}).encode()
        began = time.monotonic()
        try:
            if stream is None:
                stream = socket.create_connection(address, timeout=30, source_address=(source, 0))
            stream.sendall(request(path, body, sign(body)))
            answer = b""
            while b"\r\n\r\n" not in answer or not complete(answer):
                more = stream.recv(65536)
                if not more:
                    raise OSError("closed")
                answer += more
            status = answer[9:12].decode()
        except OSError as error:
            status, stream = str(error), None
        latencies.append(time.monotonic() - began)
        statuses[status] = statuses.get(status, 0) + 1
        time.sleep(pause)
    latencies.sort()
    at = lambda part: round(1000 * latencies[min(len(latencies) - 1, int(part * len(latencies)))], 1)
    return {"p50": at(0.5), "p99": at(0.99), "max": at(1), "requests": len(latencies), "statuses": statuses}


def complete(answer):
    head, _, body = answer.partition(b"\r\n\r\n")
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return len(body) >= int(value)
    return True


def start(hookpack, folder):
    packs = os.path.join(folder, "packs/t/triggers")
    os.makedirs(packs)
    with open(os.path.join(folder, "packs/t/pack.yaml"), "w") as file:
        file.write("ref: t\nname: t\nversion: 1.0.0\n")
    for name in ("polite", "flooded"):
        with open(os.path.join(packs, f"{name}.yaml"), "w") as file:
            file.write(TRIGGER.replace("NAME", name))
    environment = os.environ | {"HOOKPACK_SECRET_SECRET": SECRET, "HOOKPACK_SOURCE_RATE_LIMIT": "null"}
    log = open(os.path.join(folder, "log"), "w")
    command = [hookpack, "serve", "--listen", "127.0.0.1:0", "--packs", "packs", "--data-dir", "data"]
    host = subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=log, text=True)
    line = host.stdout.readline()
    if "http://" not in line:
        sys.exit("the host did not start: " + open(os.path.join(folder, "log")).read())
    port = int(line.strip().rsplit(":", 1)[1])
    token = open(os.path.join(folder, "data/admin-token")).read().strip()

    def path(name):
        url = f"http://127.0.0.1:{port}/api/v1/triggers/t.{name}/webhooks"
        asked = urllib.request.Request(url, headers={"authorization": f"Bearer {token}"})
        data = json.load(urllib.request.urlopen(asked))["data"]
        return "/api/v1/webhooks/" + data["webhook_key"]

    return host, ("127.0.0.1", port), path("polite"), path("flooded")


def rss(pid):
    for line in open(f"/proc/{pid}/status"):
        if line.startswith("VmRSS"):
            return int(line.split()[1]) // 1024
    return 0


def main():
    options = argparse.ArgumentParser()
    options.add_argument("--hookpack", default="target/release/hookpack")
    options.add_argument("--seconds", type=float, default=8)
    options.add_argument("--only", default="")
    options.add_argument("--flood", nargs=4, help=argparse.SUPPRESS)
    options = options.parse_args()
    if options.flood:
        port, message, connections, source = options.flood
        Flood(("127.0.0.1", int(port)), open(message, "rb").read(), int(connections), source).run()
        return
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR", "/var/tmp")) as folder:
        host, address, polite_path, flooded_path = start(os.path.abspath(options.hookpack), folder)
        try:
            small, large = b'{"n": 1}', b"[" + b'{"n": 1},' * 110_000 + b"1]"
            floods = {
                "bad signatures": (request(flooded_path, small, "sha256=00", 7000), 200),
                "1 MB bodies": (request(flooded_path, large, sign(large)), 16),
                "4000 connections": (request(flooded_path, small, sign(small)), 4000),
                "9000 connections": (request(flooded_path, small, sign(small)), 9000),
            }
            polite(address, polite_path, 2)
            idle = polite(address, polite_path, options.seconds)
            print(f"idle              {json.dumps(idle)}", flush=True)
            for name, (message, connections) in floods.items():
                if options.only and options.only not in name:
                    continue
                file = os.path.join(folder, "message")
                with open(file, "wb") as out:
                    out.write(message)
                command = [sys.executable, os.path.abspath(__file__), "--flood", str(address[1]), file, str(connections), "127.0.0.9"]
                environment = os.environ | {"FLOOD_SECONDS": str(options.seconds + 4)}
                flood = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
                time.sleep(3)
                told = polite(address, polite_path, options.seconds)
                sent = flood.communicate()[0].strip()
                factor = round(told["p99"] / idle["p99"], 1)
                print(f"{name:17} {json.dumps(told)} p99 {factor} x idle, flood {sent}, RSS {rss(host.pid)} MB", flush=True)
                time.sleep(2)
        finally:
            host.terminate()
            host.wait()


if __name__ == "__main__":
    main()

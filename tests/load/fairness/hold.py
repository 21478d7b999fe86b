#!/usr/bin/env python3
"""Memory of a host while many bodies wait for their last bytes. See README.md."""

import argparse
import os
import socket
import sys
import tempfile
import time

from drive import SECRET, request, rss, sign, start


def main():
    options = argparse.ArgumentParser()
    options.add_argument("--hookpack", default="target/release/hookpack")
    options.add_argument("--bodies", type=int, default=1500)
    options.add_argument("--bytes", type=int, default=1_000_000)
    options.add_argument("--addresses", type=int, default=1, help="loopback addresses that they come from")
    options = options.parse_args()
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR", "/var/tmp")) as folder:
        host, address, _, path = start(os.path.abspath(options.hookpack), folder)
        try:
            body = b"[" + b"1" * (options.bytes - 2) + b"]"
            message = request(path, body, sign(b""))[:-10]
            before, streams, refused = rss(host.pid), [], 0
            for number in range(options.bodies):
                stream = socket.socket()
                stream.bind((f"127.0.0.{10 + number % options.addresses}", 0))
                stream.settimeout(0.5)
                try:
                    stream.connect(address)
                    stream.sendall(message)
                except OSError:
                    refused += 1
                streams.append(stream)
            time.sleep(1)
            print(f"{options.bodies} bodies of {options.bytes} bytes from {options.addresses} addresses: VmRSS {before} MB, then {rss(host.pid)} MB; {refused} did not take all bytes")
        finally:
            host.terminate()
            host.wait()


if __name__ == "__main__":
    sys.exit(main())

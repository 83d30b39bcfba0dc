"""A server on this machine for downloads, with all kinds of failures."""

import hashlib
import time
from dataclasses import replace
from http.server import BaseHTTPRequestHandler

CONTENT = bytes(range(256)) * 12_000  # 3 MB
HASH = hashlib.sha256(CONTENT).hexdigest()
PIECE = 50_000  # bytes sent at a time
COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Handler(BaseHTTPRequestHandler):
    """Serves /file and its path on the Hub, with the failures listed in `server.plan`."""

    protocol_version = "HTTP/1.1"

    def do_HEAD(self):
        self.answer(head=True)

    def do_GET(self):
        self.answer(head=False)

    def log_message(self, *args):
        pass

    def answer(self, head):
        server = self.server
        server.asked.append((self.command, self.path, self.headers.get("Range")))
        plan = server.plan.pop(0) if server.plan and not head else server.always
        if isinstance(plan, int):
            self.send_response(plan)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        content, start = server.content, 0
        wanted, version = self.headers.get("Range"), self.headers.get("If-Range")
        if wanted and version in (None, server.etag):
            start = int(wanted.removeprefix("bytes=").split("-")[0])
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(content) - start))
        self.send_header("ETag", server.etag)
        self.send_header("X-Repo-Commit", COMMIT)
        self.end_headers()
        if head:
            return
        stop = len(content) if plan in (None, "slow") else start + int(len(content) * 0.4)
        for at in range(start, stop, PIECE):
            try:
                self.wfile.write(content[at : min(at + PIECE, stop)])
            except ConnectionError:  # the client was killed or closed the connection
                self.close_connection = True
                return
            if plan == "slow":
                time.sleep(0.02)
        self.wfile.flush()
        if plan == "stall":
            server.released.wait(20)
        if plan is not None:
            self.close_connection = True


def known(entry):
    return replace(entry, sha256=HASH)


def kept(entry):
    return sorted(path.name for path in entry.path.parent.iterdir() if path.is_file() and path.name[0] != ".")

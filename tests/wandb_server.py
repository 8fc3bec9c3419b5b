"""As much of W&B's server as its client needs to send a run: everything it is sent is kept."""

from __future__ import annotations

import gzip
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class WandbServer:
    """What was sent: requests as text, files by name; runs in `refused` are turned away."""

    address: str = ""
    requests: list[str] = field(default_factory=list)
    files: dict[str, bytes] = field(default_factory=dict)
    runs: list[dict[str, Any]] = field(default_factory=list)
    views: list[dict[str, Any]] = field(default_factory=list)
    refused: set[str] = field(default_factory=set)
    status: int = 200

    def answer(self, operation: str, values: dict[str, Any]) -> dict[str, Any]:
        """The data of a GraphQL operation; none for those that the client can do without."""
        if operation == "UpsertBucket":
            self.runs.append(values)
            project = {"id": "p", "name": values["project"], "entity": {"id": "e", "name": "us"}}
            bucket = {"id": "r", "name": values["name"], "displayName": "", "description": None}
            bucket |= {"config": "{}", "sweepName": None, "historyLineCount": 0, "project": project}
            return {"upsertBucket": {"bucket": bucket, "inserted": True}}
        if operation == "UpsertView2":
            self.views.append(values)
            return {"upsertView": {"view": {"id": "v", "name": values["name"]}, "inserted": True}}
        if operation == "CreateArtifact":
            made = {"id": "a", "state": "PENDING", "artifactSequence": {"latestArtifact": None}}
            return {"createArtifact": {"artifact": made}}
        if operation == "CreateArtifactManifest":
            file = {"id": "f", "uploadUrl": f"{self.address}/manifest", "uploadHeaders": []}
            return {"createArtifactManifest": {"artifactManifest": {"id": "m", "file": file}}}
        if operation == "CreateArtifactFiles":
            names = [file["name"] for file in values["input"]["artifactFiles"]]
            return {"createArtifactFiles": {"files": {"edges": list(map(self._place, names))}}}
        if operation == "CommitArtifact":
            return {"commitArtifact": {"artifact": {"id": "a", "digest": ""}}}
        if operation == "CreateRunFiles":
            places = [{"name": n, "uploadUrl": f"{self.address}/run/{n}"} for n in values["files"]]
            return {"createRunFiles": {"runID": "r", "uploadHeaders": [], "files": places}}
        viewer = {"id": "v", "entity": "us", "username": "us", "flags": "{}"}
        return {"serverInfo": {"features": []}, "viewer": viewer, "project": None, "model": None}

    def _place(self, name: str) -> dict[str, Any]:
        node = {"storagePath": name, "uploadUrl": f"{self.address}/artifact/{name}"}
        return {"node": {**node, "uploadHeaders": [], "uploadMultipartUrls": None, "artifact": {}}}


@contextmanager
def serving() -> Iterator[WandbServer]:
    """On the loopback, until the end of the context."""
    server = WandbServer()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *words: Any) -> None:
            """Keeps still."""

        def _body(self) -> bytes:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            return gzip.decompress(body) if self.headers["Content-Encoding"] == "gzip" else body

        def _say(self, content: Any, status: int = 200) -> None:
            body = json.dumps(content).encode()
            self.send_response(server.status if server.status != 200 else status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self) -> None:
            self._say({})

        def do_PUT(self) -> None:
            server.files[self.path] = self._body()
            self._say({})

        def do_POST(self) -> None:
            text = self._body().decode()
            server.requests.append(f"{self.path} {text}")
            if self.path != "/graphql":
                return self._say({"exitcode": None, "limits": {}})
            asked = json.loads(text)
            named = re.match(r"\s*(?:query|mutation) (\w+)", asked["query"])
            operation, values = named[1] if named else "", asked.get("variables") or {}
            if values.get("name") in server.refused:
                return self._say({"errors": [{"message": "permission denied"}]}, 403)
            return self._say({"data": server.answer(operation, values)})

    class Quiet(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *words: Any) -> None:
            """A client that leaves is no error."""

    http = Quiet(("127.0.0.1", 0), Handler)
    server.address = f"http://127.0.0.1:{http.server_port}"
    threading.Thread(target=http.serve_forever, daemon=True).start()
    try:
        yield server
    finally:
        http.shutdown()
        http.server_close()

"""Serves the page of a blind study to browsers: one HTML file, the pictures by id, and the answers back.

Only the standard library; nothing is fetched from elsewhere. Requests name this server's own host, and answers are
JSON, which another site's page cannot send here without being asked first.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from typing import Any
from urllib.parse import parse_qs, urlsplit

from grasp_nodes.errors import InputError
from grasp_nodes.viewer.rating import RatingStudy, RatingTask

PAGE = "rating.html"
LARGEST_ANSWER = 4096
"""bytes."""
_POLICY = (
    "default-src 'none'; img-src 'self'; connect-src 'self'; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
)

logger = logging.getLogger(__name__)


class RatingServer(ThreadingHTTPServer):
    """Answers each browser in a thread of its own; `serve_forever` until `shutdown`."""

    daemon_threads = True

    def __init__(self, study: RatingStudy, host: str = "127.0.0.1", port: int = 8090) -> None:
        """Listen.

        Args:
            study: whose questions are asked. host: address to listen on. port: 0 = any free one.

        Raises:
            InputError: the address or port cannot be listened on.
        """
        self.study = study
        self.page = files("grasp_nodes.viewer").joinpath(PAGE).read_bytes()
        self.host = host
        try:
            super().__init__((host, port), _Handler)
        except (OSError, OverflowError) as error:
            raise InputError(
                f"rating page: cannot listen on {host}:{port} ({error}); give another --port, and as --host 127.0.0.1 "
                "for this machine alone or 0.0.0.0 for the network"
            ) from error

    @property
    def address(self) -> str:
        """Of the page."""
        return f"http://{self.host}:{self.server_address[1]}"

    def knows_host(self, header: str) -> bool:
        """Whether a request meant this server, and not a name that another site points to this machine."""
        try:
            name = urlsplit(f"//{header}").hostname
        except ValueError:
            return False
        return self.host not in ("127.0.0.1", "localhost") or name in ("127.0.0.1", "localhost")


class _Handler(BaseHTTPRequestHandler):
    server: RatingServer
    protocol_version = "HTTP/1.1"
    timeout = 60

    def do_GET(self) -> None:
        """The page, a rater's questions, or a picture."""
        try:
            url = urlsplit(self.path)
        except ValueError:
            self._refuse("no such page", HTTPStatus.NOT_FOUND)
            return
        if not self.server.knows_host(self.headers.get("Host", "")):
            self._refuse("unknown host")
        elif url.path == "/":
            self._send(self.server.page, "text/html; charset=utf-8")
        elif url.path == "/tasks":
            self._answer(lambda: self._tasks(parse_qs(url.query).get("rater", [""])[0]))
        elif url.path.startswith("/picture/"):
            self._picture(url.path.removeprefix("/picture/").removesuffix(".png"))
        else:
            self._refuse("no such page", HTTPStatus.NOT_FOUND)

    def do_POST(self) -> None:
        """An answer."""
        length = self.headers.get("Content-Length", "")
        size = int(length) if length.isascii() and length.isdigit() else -1
        if not 0 <= size <= LARGEST_ANSWER:
            self.close_connection = True
            self._refuse(f"an answer has at most {LARGEST_ANSWER} bytes", HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
            return
        body = self.rfile.read(size)
        if not self.server.knows_host(self.headers.get("Host", "")):
            self._refuse("unknown host")
        elif self.path != "/answer" or self.headers.get_content_type() != "application/json":
            self._refuse("expected JSON at /answer", HTTPStatus.NOT_FOUND)
        else:
            self._answer(lambda: self._record(body))

    def _tasks(self, rater: str) -> dict[str, Any]:
        tasks = self.server.study.tasks(rater)
        return {
            "tasks": [
                {"kind": task.kind, "first": task.first, "second": task.second, "answer": answer}
                for task, answer in tasks
            ]
        }

    def _record(self, body: bytes) -> dict[str, Any]:
        try:
            content = json.loads(body)
            task = RatingTask(content["kind"], content["first"], content["second"])
            rater, answer, seconds = content["rater"], content["answer"], float(content["seconds"])
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
            raise InputError(f"answer: expected rater, kind, first, second, answer and seconds ({error})") from error
        if not all(isinstance(text, str) for text in (rater, answer, task.kind, task.first, task.second)):
            raise InputError("answer: rater, kind, first, second and answer are texts")
        self.server.study.record(rater, task, answer, seconds)
        return {}

    def _picture(self, picture_id: str) -> None:
        try:
            self._send(self.server.study.picture(picture_id), "image/png")
        except (InputError, OSError) as error:
            self._refuse(str(error), HTTPStatus.NOT_FOUND)

    def _answer(self, make: Callable[[], dict[str, Any]]) -> None:
        try:
            content = make()
        except InputError as error:
            self._refuse(str(error))
        else:
            self._send(json.dumps(content).encode(), "application/json")

    def _refuse(self, reason: str, status: HTTPStatus = HTTPStatus.BAD_REQUEST) -> None:
        self._send(json.dumps({"error": reason}).encode(), "application/json", status)

    def _send(self, content: bytes, kind: str, status: HTTPStatus = HTTPStatus.OK) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Content-Security-Policy", _POLICY)
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the standard library's name
        """Requests go to the log, not to the terminal of the rater."""
        logger.debug("%s %s", self.address_string(), format % args)

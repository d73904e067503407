"""The Runtime API over one kept connection.

HTTP is spoken here by hand over the C socket module: http.client with what it imports takes several times as long to
load as the interpreter takes to start.
"""

import _socket

_VERSION = "/2018-06-01/runtime/"
_CHUNK = 65536


class ApiError(Exception):
    """The Runtime API refused a request."""

    def __init__(self, path, status, body):
        super().__init__("%s answered %d: %s" % (path, status, body.decode("utf-8", "replace")))
        self.status = status


class _Closed(ConnectionError):
    """The connection ended before the first byte of an answer."""


class RuntimeApi:
    """A client of the Runtime API at host:port. One request at a time; waits without a time limit, since the process may
    be frozen for long between two events."""

    def __init__(self, address):
        host, _, port = address.rpartition(":")
        self._address = (host.strip("[]"), int(port))
        self._host = address
        self._socket = None
        self._buffer = b""

    def next(self):
        """Waits for an event: (headers with lower-case names, body)."""
        return self._request("GET", _VERSION + "invocation/next")

    def respond(self, request_id, body, content_type):
        self._request("POST", _VERSION + "invocation/" + request_id + "/response", body, {"Content-Type": content_type})

    def fail(self, request_id, error_type, body, xray_cause):
        self._request(
            "POST", _VERSION + "invocation/" + request_id + "/error", body, _error_headers(error_type, xray_cause)
        )

    def fail_init(self, error_type, body, xray_cause):
        self._request("POST", _VERSION + "init/error", body, _error_headers(error_type, xray_cause))

    def _request(self, method, path, body=None, headers=()):
        head = [method, " ", path, " HTTP/1.1\r\nHost: ", self._host, "\r\n"]
        for name in headers:
            head += (name, ": ", headers[name], "\r\n")
        if body is not None:
            head += ("Content-Length: ", str(len(body)), "\r\n")
        head.append("\r\n")
        data = "".join(head).encode("ascii", "replace")
        if body is not None:
            data += body
        kept = self._socket is not None
        try:
            status, answer_headers, answer = self._exchange(data)
        except _Closed:
            if not kept:
                raise
            # The other side had closed the idle connection, so it has not seen the request.
            status, answer_headers, answer = self._exchange(data)
        if status >= 300:
            raise ApiError(path, status, answer)
        return answer_headers, answer

    def _exchange(self, data):
        try:
            if self._socket is None:
                self._connect()
            try:
                self._socket.sendall(data)
            except OSError:
                # An answer may have come before the request was read whole, as it does to one that is too large.
                self._buffer = b""
            head, rest = self._read_head()
            return self._read_answer(head, rest)
        except BaseException:
            self._close()
            raise

    def _connect(self):
        family, _, _, _, address = (
            (_socket.AF_INET, 0, 0, "", self._address)
            if self._address[0].replace(".", "").isdigit()
            else _socket.getaddrinfo(self._address[0], self._address[1], 0, _socket.SOCK_STREAM)[0]
        )
        self._socket = _socket.socket(family, _socket.SOCK_STREAM)
        self._buffer = b""
        try:
            self._socket.connect(address)
            self._socket.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)
        except OSError:
            self._close()
            raise

    def _close(self):
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _receive(self):
        data = self._socket.recv(_CHUNK)
        if not data:
            raise ConnectionError("the Runtime API closed the connection within an answer")
        return data

    def _read_head(self):
        buffer, self._buffer = self._buffer, b""
        while True:
            end = buffer.find(b"\r\n\r\n")
            if end >= 0:
                return buffer[:end], buffer[end + 4 :]
            try:
                data = self._socket.recv(_CHUNK)
            except OSError:
                data = b""
            if not data:
                raise _Closed("the Runtime API closed the connection") if not buffer else ConnectionError("the Runtime API closed the connection within a head")
            buffer += data

    def _read_answer(self, head, rest):
        lines = head.decode("utf-8", "surrogateescape").split("\r\n")
        status = int(lines[0].split(" ", 2)[1])
        headers = {}
        for line in lines[1:]:
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        if "content-length" in headers:
            body = self._read_sized(rest, int(headers["content-length"]))
        elif headers.get("transfer-encoding", "").lower() == "chunked":
            body = self._read_chunked(rest)
        elif status in (204, 304):
            body, self._buffer = b"", rest
        else:  # the body ends with the connection
            body = rest
            while True:
                data = self._socket.recv(_CHUNK)
                if not data:
                    break
                body += data
            self._close()
        if headers.get("connection", "").lower() == "close":
            self._close()
        return status, headers, body

    def _read_sized(self, rest, size):
        if len(rest) >= size:
            self._buffer = rest[size:]
            return rest[:size]
        body = bytearray(size)
        body[: len(rest)] = rest
        view, at = memoryview(body), len(rest)
        while at < size:
            n = self._socket.recv_into(view[at:])
            if n == 0:
                raise ConnectionError("the Runtime API closed the connection within a body")
            at += n
        return bytes(body)

    def _read_chunked(self, rest):
        parts = []
        while True:
            while b"\r\n" not in rest:
                rest += self._receive()
            line, _, rest = rest.partition(b"\r\n")
            size = int(line.split(b";")[0], 16)
            if size == 0:
                break
            while len(rest) < size + 2:
                rest += self._receive()
            parts.append(rest[:size])
            rest = rest[size + 2 :]
        while True:  # trailers, up to an empty line
            while b"\r\n" not in rest:
                rest += self._receive()
            line, _, rest = rest.partition(b"\r\n")
            if not line:
                self._buffer = rest
                return b"".join(parts)


def _error_headers(error_type, xray_cause):
    headers = {
        "Content-Type": "application/json",
        "Lambda-Runtime-Function-Error-Type": "".join(c if " " <= c <= "~" else "?" for c in error_type),
    }
    if xray_cause:
        headers["Lambda-Runtime-Function-XRay-Error-Cause"] = xray_cause
    return headers

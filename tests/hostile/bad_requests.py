"""Requests that lie about where they end, come in crumbs, or are in forms that no parser should be left alone with.

Each is the bytes of a connection, with HOST where the server's own name belongs, and the statuses that may answer it:
none where it is half a request, which is given up in time.
"""

import gzip
import os
import struct
import zlib

from tests.prepare.test_bad_input import sound_bytes

SPEECH, UPLOAD = b"/v1/audio/speech", b"/v1/audio/transcriptions"
SAY = b'{"model": "tiny", "input": "say it", "response_format": "pcm", "max_s": 0.1}'
LARGE = 300_000


def post(body: bytes, *fields: bytes, path: bytes = SPEECH, kind: bytes = b"application/json", length: bool = True) -> bytes:  # fmt: skip
    """A request with these header fields."""
    fields = (b"Content-Type: " + kind, *((b"Content-Length: %d" % len(body),) if length else ()), *fields)
    return b"POST " + path + b" HTTP/1.1\r\nHost: HOST\r\n" + b"\r\n".join(fields) + b"\r\n\r\n" + body


def get(target: bytes, *fields: bytes) -> bytes:
    """A request without a body."""
    return b"GET " + target + b" HTTP/1.1\r\n" + b"".join(f + b"\r\n" for f in fields) + b"\r\n"


def part(name: bytes, data: bytes, file: bytes | None = None, more: bytes = b"") -> bytes:
    """A part of a form whose border is x."""
    called = b'; filename="' + file + b'"' if file is not None else b""
    return b'--x\r\nContent-Disposition: form-data; name="' + name + b'"' + called + b"\r\n" + more + b"\r\n" + data + b"\r\n"  # fmt: skip


def upload(body: bytes, border: bytes = b"; boundary=x", more: bytes = b"") -> bytes:
    """A form."""
    return post(
        body, b"Connection: close", path=UPLOAD, kind=b"multipart/form-data" + border + more, length=True
    )


def bad_requests() -> dict[str, tuple[bytes, set[int]]]:
    """Bytes and the statuses of their answers."""
    chunked, own, last = b"Transfer-Encoding: chunked", b"Host: HOST", b"Connection: close"
    model, file = part(b"model", b"tiny"), part(b"file", sound_bytes(0.1), b"a.wav")
    whole, border = model + file + b"--x--\r\n", b"--x--\r\n"
    head = b"--x\r\nContent-Disposition: form-data; name=file; filename=a\r\n"
    lengths = {
        "length and chunks": (post(SAY, chunked), {400}),
        "two lengths": (post(SAY, b"Content-Length: 5"), {400}),
        "a length with a sign": (post(SAY, b"Content-Length: +76", length=False), {400}),
        "a length of 5,000 digits": (post(SAY, b"Content-Length: " + b"9" * 5000, length=False), {400}),
        "a length in Arabic digits": (post(SAY, "Content-Length: ٣".encode(), length=False), {400}),
        "xchunked": (post(SAY, b"Transfer-Encoding: xchunked", length=False), {400}),
        "gzip and chunks": (post(SAY, b"Transfer-Encoding: gzip, chunked", length=False), {400}),
        "chunks twice": (post(SAY, chunked, b"Transfer-Encoding: identity", length=False), {400}),
        "a chunk of -1": (post(b"-1\r\n" + SAY, chunked, length=False), {400}),
        "a chunk of 2^64": (post(b"f" * 16 + b"\r\n" + SAY, chunked, length=False), set()),
        "a chunk's words without end": (post(b"1;" + b"a" * LARGE, chunked, length=False), {400}),
        "chunks of one byte": (post(b"1\r\na\r\n" * 50_000 + b"0\r\n\r\n", chunked, length=False), {400}),
        "fields after the body without end": (post(b"0\r\n" + b"X-A: b\r\n" * 50_000, chunked, length=False), {400}),
        "100 that never comes": (post(b"", b"Expect: 100-continue", b"Content-Length: 100", length=False), {100, 408}),
        "a thousand fields": (get(b"/health", own, *[b"X-%d: y" % n for n in range(1000)], last), {200, 400}),
        "40,000 fields": (get(b"/health", own, *[b"X: y"] * 40_000, last), {400}),
        "two hosts": (get(b"/health", own, b"Host: evil.com", last), {400}), "no host": (get(b"/health", last), {400}),
        "a space before the colon": (get(b"/health", b"Host : HOST", last), {400}),
        "another site's address": (get(b"http://evil.com/health", own, last), {403, 404}),
        "up and out": (get(b"/page/..%2f..%2f..%2fetc/passwd", own, last), {404}), "no path": (get(b"/%zz%ff%00", own, last), {404}),
        "TLS": (b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03" + bytes(500), {400}),
        "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", {400, 403}),
        "500 at once": (get(b"/health", own) * 500, {200}),
    }  # fmt: skip
    bodies = {
        "gzip": (post(gzip.compress(SAY), b"Content-Encoding: gzip", last), {400}), "UTF-16": (post(SAY.decode().encode("utf-16"), last), {400}),
        "a name twice": (post(SAY.replace(b"{", b'{"input": "other", '), last), {400}), "nested": (post(b"[" * LARGE, last), {400}),
        "NaN": (post(SAY.replace(b"0.1", b"NaN"), last), {400}), "6,000 digits": (post(SAY.replace(b"0.1", b"9" * 6000), last), {400}),
        "half a surrogate pair": (post(SAY.replace(b"say it", b"\\ud800"), last), {400}), "XML": (post(b"<a/>", last, kind=b"application/xml"), {400}),
        "a form of 20,000 fields": (post(b"file=x&" * 20_000, last, path=UPLOAD, kind=b"application/x-www-form-urlencoded"), {400}),
    }  # fmt: skip
    forms = {
        "without end": (upload(model + file), {400}), "cut in its file": (upload((model + file)[:-900]), {400}),
        "of 5,000 parts": (upload(b"".join(part(b"p%d" % n, b"v") for n in range(5000)) + border), {400}),
        "words first": (upload(b"z" * LARGE + b"\r\n" + whole), {400}), "no border": (upload(whole, b""), {400}),
        "a border of nothing": (upload(whole, b"; boundary="), {400}), "a border of 20,000": (upload(whole, b"; boundary=" + b"y" * 20_000), {400}),
        "a charset that raises": (upload(part(b"model", b"xn--" + b"a" * 60_000) + file + border, more=b"; charset=idna"), {400}),
        "a charset that unpacks": (upload(whole, more=b"; charset=bz2"), {200, 400}), "a charset that turns": (upload(whole, more=b"; charset=rot13"), {200, 400}),
        "a file named elsewhere": (upload(model + part(b"file", sound_bytes(0.1), b"../../../etc/passwd") + border), {200}),
        "a file in base64": (upload(model + part(b"file", b"UklGRg" * 99, b"a.wav", b"Content-Transfer-Encoding: base64\r\n") + border), {400}),
        "fields of a part without end": (upload(head + b"A:b\r\n" * (LARGE // 5)), {400}),
        "a field of a part without end": (upload(head + b"A: " + b"b" * LARGE + b"\r\n\r\n"), {400}),
        "nearly borders": (upload(model + head + b"\r\n" + b"\r\n--" * (LARGE // 4) + b"\r\n" + border), {400}),
        "ends of lines": (upload(model + head + b"\r\n" + b"\r" * LARGE + b"\r\n" + border), {400}),
    }  # fmt: skip
    return {
        f"{group} {name}": request
        for group, requests in (("request:", lengths), ("body:", bodies), ("form:", forms))
        for name, request in requests.items()
    }


# --- WebSockets

START = b'{"type": "start"}'


def upgrade() -> bytes:
    """The request that opens a WebSocket."""
    fields = (b"Host: HOST", b"Upgrade: websocket", b"Connection: Upgrade", b"Sec-WebSocket-Version: 13")
    more = (b"Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==", b"Sec-WebSocket-Extensions: permessage-deflate")
    return get(b"/v1/audio/live", *fields, *more)


def frame(kind: int, data: bytes, *, last: bool = True, marks: int = 0, masked: bool = True, length: int | None = None) -> bytes:  # fmt: skip
    """A frame, masked with zeros."""
    count, mask = len(data) if length is None else length, 0x80 if masked else 0
    head = bytes([last << 7 | marks << 4 | kind])
    if count < 126:
        head += bytes([mask | count])
    elif count < 1 << 16:
        head += bytes([mask | 126]) + struct.pack(">H", count)
    else:
        head += bytes([mask | 127]) + struct.pack(">Q", count)
    return head + (bytes(4) if masked else b"") + data


def packed(data: bytes) -> bytes:
    """As permessage-deflate packs it."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return (packer.compress(data) + packer.flush(zlib.Z_SYNC_FLUSH))[:-4]


def bad_messages() -> dict[str, tuple[bytes, bytes]]:
    """Frames sent on an open WebSocket, and what its end says: code, and a part of the reason."""

    def end(code: int, says: bytes) -> bytes:
        return struct.pack(">H", code) + says

    return {
        "a kind that is none": (frame(3, b"x"), end(1002, b"invalid opcode")), "goes on with nothing": (frame(0, b"x"), end(1002, b"unexpected")),
        "unmasked": (frame(1, START, masked=False), end(1002, b"incorrect masking")), "marks": (frame(1, START, marks=3), end(1002, b"reserved")),
        "2^63 bytes": (frame(1, b"x", length=2**63), end(1009, b"")), "70,000 bytes": (frame(1, b" " * 70_000), end(1009, b"")),
        "no UTF-8": (frame(1, b"\xff\xfe"), end(1007, b"no UTF-8")), "half a character": (frame(1, b"\xc3"), end(1007, b"no UTF-8")),
        "binary": (frame(2, START), end(1008, b"")), "a name twice": (frame(1, b'{"type": "start", "type": "start"}'), end(1008, b"")),
        "nested": (frame(1, b"[" * 60_000), end(1008, b"")), "no start": (frame(1, b'{"type": "text", "text": "a"}'), end(1008, b"")),
        "crumbs": (frame(1, b"{", last=False) + frame(0, b" ", last=False) * 100_000, end(1008, b"crumbs")),
        "crumbs of nothing": (frame(1, b"", last=False) + frame(0, b"", last=False) * 100_000, end(1008, b"crumbs")),
        "a long ping": (frame(9, b"p" * 126), end(1002, b"control frame")), "an end of one byte": (frame(8, b"x"), end(1002, b"close frame")),
        "an end of 9999": (frame(8, struct.pack(">H", 9999)), end(1002, b"invalid status")),
        "a bomb": (frame(1, packed(b" " * (50 << 20)), marks=4), end(1009, b"")), "packed noise": (frame(1, os.urandom(500), marks=4), end(1002, b"decompression")),
        "too much text": (frame(1, START) + frame(1, b'{"type": "text", "text": "%s"}' % (b"Go on. " * 200)) * 300, end(1008, b"")),
    }  # fmt: skip

"""Callers who ask again as soon as they are answered, and what it cost whoever answered.

python -m gateways.load < ORDER    (an `Order` as JSON; prints a `Load` as JSON)

Connections are opened, and each asks once, before anything is counted. Then all ask for `seconds`, and what is under
way is waited for until `limit_s`; CPU time of the watched processes is read at both ends.
"""

import re
import select
import socket
import sys
import time
from statistics import quantiles

import httptools
import msgspec
from gateways.processes import core_busy_s, cpu_s
from gateways.upstream import EVENTS

MARK = re.compile(rb"#(\d\d) (\d{16})")


class Order(msgspec.Struct, frozen=True, kw_only=True):
    port: int
    headers: dict[str, str]
    body: bytes
    warm_up: bytes
    connections: int
    seconds: float
    limit_s: float
    watch: list[int]
    core: int


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """What came of it. Delays are from sending an event to reading it; `merged`: events read together with another."""

    answered: int
    failed: int
    statuses: dict[int, int]
    cut: int
    seconds: float
    p50_ms: float | None
    p99_ms: float | None
    events: int
    merged: int
    misplaced: int
    delay_p50_ms: float | None
    delay_p99_ms: float | None
    cpu_s: float
    others_share: float


class Tally:
    """What all callers have seen since counting began."""

    def __init__(self) -> None:
        self.statuses: dict[int, int] = {}
        self.latencies_ns: list[int] = []
        self.delays_ns: list[int] = []
        self.merged = 0
        self.misplaced = 0
        self.failed = 0


class Caller:
    """One connection. httptools calls the `on_` methods."""

    def __init__(self, order: Order, tally: Tally) -> None:
        self.tally = tally
        self.asking = False
        self.open(order.port)

    def open(self, port: int) -> None:
        self.plug = socket.create_connection(("127.0.0.1", port))
        self.plug.setblocking(False)
        self.plug.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.parser = httptools.HttpResponseParser(self)
        self.unsent = memoryview(b"")

    def ask(self, request: bytes) -> None:
        self.asking = True
        self.read_at = self.began = time.monotonic_ns()
        self.position = 0
        self.rest = b""
        self.unsent = memoryview(request)
        self.send()

    def send(self) -> None:
        try:
            self.unsent = self.unsent[self.plug.send(self.unsent) :]
        except BlockingIOError:
            return

    def read(self, data: memoryview) -> None:
        self.read_at = time.monotonic_ns()
        before = len(self.tally.delays_ns)
        self.parser.feed_data(data)
        self.tally.merged += max(0, len(self.tally.delays_ns) - before - 1)

    def on_body(self, data: bytes) -> None:
        if self.rest:
            data = self.rest + data
        end = data.rfind(b"\n\n")
        for number, sent_at in MARK.findall(data, 0, end + 2):
            self.tally.misplaced += int(number) != self.position
            self.position += 1
            self.tally.delays_ns.append(self.read_at - int(sent_at))
        self.rest = data[end + 2 :] if end >= 0 else data

    def on_message_complete(self) -> None:
        status = self.parser.get_status_code()
        whole = self.position == EVENTS or (self.position == 0 and b'"usage"' in self.rest)
        self.asking = False
        self.tally.statuses[status] = self.tally.statuses.get(status, 0) + 1
        if status == 200 and whole:
            self.tally.latencies_ns.append(self.read_at - self.began)
        else:
            self.tally.failed += 1


class Crowd:
    """All callers, on one epoll."""

    def __init__(self, order: Order) -> None:
        self.order = order
        self.tally = Tally()
        self._poll = select.epoll()
        self._callers: dict[int, Caller] = {}
        self._room = memoryview(bytearray(1 << 16))
        for _ in range(order.connections):
            self._add(Caller(order, self.tally))

    def _add(self, caller: Caller) -> None:
        self._callers[caller.plug.fileno()] = caller
        self._poll.register(caller.plug, select.EPOLLIN)

    def run(self, body: bytes, *, seconds: float) -> int:
        """Everybody asks, again and again for `seconds` and once at least. How many were left unanswered."""
        request = self._request(body)
        self.tally = Tally()
        for caller in list(self._callers.values()):
            caller.tally = self.tally
            if caller.asking:
                self._again(caller)
        began = time.monotonic()
        for caller in self._callers.values():
            self._ask(caller, request)
        waiting = len(self._callers)
        while waiting and (past := time.monotonic() - began) < self.order.limit_s:
            for number, what in self._poll.poll(0.1):
                caller = self._callers[number]
                if what & select.EPOLLOUT:
                    self._send(caller)
                if what & ~select.EPOLLOUT and not self._read(caller):
                    waiting -= 1
                    if past < seconds:
                        self._ask(caller, request)
                        waiting += 1
        return waiting

    def _request(self, body: bytes) -> bytes:
        headers = {"host": f"127.0.0.1:{self.order.port}", "content-type": "application/json", **self.order.headers}
        lines = [f"{name}: {value}\r\n" for name, value in headers.items()]
        head = f"POST /v1/chat/completions HTTP/1.1\r\n{''.join(lines)}content-length: {len(body)}\r\n\r\n"
        return head.encode() + body

    def _ask(self, caller: Caller, request: bytes) -> None:
        caller.ask(request)
        if caller.unsent:
            self._poll.modify(caller.plug, select.EPOLLIN | select.EPOLLOUT)

    def _send(self, caller: Caller) -> None:
        caller.send()
        if not caller.unsent:
            self._poll.modify(caller.plug, select.EPOLLIN)

    def _read(self, caller: Caller) -> bool:
        """Whether it still waits for its answer, or never asked."""
        asked = caller.asking
        try:
            count = caller.plug.recv_into(self._room)
            if not count:
                raise ConnectionResetError
            caller.read(self._room[:count])
        except BlockingIOError:
            return True
        except (OSError, httptools.HttpParserError):
            self.tally.failed += asked
            self._again(caller)
        return caller.asking or not asked

    def _again(self, caller: Caller) -> None:
        del self._callers[caller.plug.fileno()]
        caller.plug.close()
        caller.asking = False
        caller.open(self.order.port)
        self._add(caller)


def measured(order: Order) -> Load:
    crowd = Crowd(order)
    crowd.run(order.warm_up, seconds=0)
    began, busy, cpu = time.monotonic(), core_busy_s(order.core), cpu_s(order.watch)
    cut = crowd.run(order.body, seconds=order.seconds)
    cpu = cpu_s(order.watch) - cpu
    busy, seconds = core_busy_s(order.core) - busy, time.monotonic() - began
    tally = crowd.tally
    p50, p99 = percentiles_ms(tally.latencies_ns)
    delay_p50, delay_p99 = percentiles_ms(tally.delays_ns)
    return Load(
        answered=len(tally.latencies_ns),
        failed=tally.failed,
        statuses=tally.statuses,
        cut=cut,
        seconds=seconds,
        p50_ms=p50,
        p99_ms=p99,
        events=len(tally.delays_ns),
        merged=tally.merged,
        misplaced=tally.misplaced,
        delay_p50_ms=delay_p50,
        delay_p99_ms=delay_p99,
        cpu_s=cpu,
        others_share=max(0.0, busy - cpu) / seconds,
    )


def percentiles_ms(values_ns: list[int]) -> tuple[float | None, float | None]:
    """The median and the 99th."""
    if not values_ns:
        return None, None
    cuts = quantiles(values_ns if len(values_ns) > 1 else values_ns * 2, n=100, method="inclusive")
    return cuts[49] / 1e6, cuts[98] / 1e6


if __name__ == "__main__":
    sys.stdout.buffer.write(msgspec.json.encode(measured(msgspec.json.decode(sys.stdin.buffer.read(), type=Order))))

"""The connections to one upstream: bounded, the last used first, waiters in the order in which they came."""

import asyncio
import ssl
from collections import deque
from collections.abc import Callable

from narthex.core.errors import UpstreamUnavailable
from narthex.ipc.alarms import Alarms
from narthex.upstream.address import Address
from narthex.upstream.connection import Connection
from narthex.upstream.faults import FOREIGN, translate


class Pool:
    """Lends connections. Belongs to one loop; whoever makes it closes it.

    A waiter is handed either a connection that came back or, as None, the place of one that went, so nobody who comes
    later can take it first.
    """

    def __init__(
        self, address: Address, *, max_connections: int, keepalive_s: float, tls: ssl.SSLContext | None
    ) -> None:
        self._address = address
        self._max_connections = max_connections
        self._keepalive_s = keepalive_s
        self._tls = tls
        self._idle: deque[Connection] = deque()  # the longest idle on the left
        self._lent: set[Connection] = set()
        self._taken = 0  # places: connections that are idle or lent, or being made
        self._waiters: deque[asyncio.Future[Connection | None]] = deque()
        self._sweeper: asyncio.TimerHandle | None = None
        self._gone = asyncio.Event()
        self._closed = False
        self._now: Callable[[], float] = self._first_now
        self._alarms: Alarms | None = None

    def take(self) -> Connection | None:
        """An idle connection, if there is one; give it back with `release`."""
        while self._idle:
            connection = self._idle.pop()
            if connection.alive and self._now() - connection.idle_since_s < self._keepalive_s:
                self._lent.add(connection)
                return connection
            self._drop(connection)
        return None

    async def acquire(self, connect_s: float) -> Connection:
        """A connection for one exchange; give it back with `release`.

        Raises:
            UpstreamError: it could not be made, or not within `connect_s`, or the pool is closed.
        """
        if self._closed:
            raise _closed()
        if (idle := self.take()) is not None:
            return idle
        if self._taken < self._max_connections:
            self._taken += 1
        elif (handed := await self._wait()) is not None:
            return handed
        return await self._connect(connect_s)

    async def replace(self, connection: Connection, connect_s: float) -> Connection:
        """A new connection in the place of a lent one that is dead.

        Raises:
            UpstreamError: it could not be made.
        """
        connection.end()
        self._lent.discard(connection)
        return await self._connect(connect_s)

    def release(self, connection: Connection) -> None:
        """End the exchange on a lent connection: keep it if it can carry another, close it otherwise."""
        self._lent.discard(connection)
        if not connection.end():
            self._vacate()
        elif self._closed:
            self._drop(connection)
        elif self._waiters and (waiter := self._next_waiter()) is not None:
            self._lent.add(connection)
            waiter.set_result(connection)
        else:
            connection.idle_since_s = self._now()
            self._idle.append(connection)
            if self._sweeper is None:
                self._sweep_later()

    def retire(self) -> None:
        """Take no new exchange; the running ones may end."""
        self._closed = True
        if self._sweeper is not None:
            self._sweeper.cancel()
        while self._idle:
            self._drop(self._idle.pop())
        while (waiter := self._next_waiter()) is not None:
            waiter.set_exception(_closed())

    async def aclose(self) -> None:
        """Close everything, running exchanges too."""
        self.retire()
        for connection in tuple(self._lent):
            connection.abort()
        await asyncio.sleep(0)  # transports tell of their end on the loop's next turn

    async def _wait(self) -> Connection | None:
        waiter: asyncio.Future[Connection | None] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        try:
            return await waiter
        except asyncio.CancelledError:
            if not waiter.done() or waiter.cancelled():
                self._waiters = deque(other for other in self._waiters if other is not waiter)
            elif waiter.exception() is None:  # handed over in the very turn in which we were cancelled
                if (connection := waiter.result()) is not None:
                    self.release(connection)
                else:
                    self._vacate()
            raise

    async def _connect(self, connect_s: float) -> Connection:
        loop = asyncio.get_running_loop()
        alarms = self._alarms = self._alarms or Alarms(loop)
        address = self._address

        def make() -> Connection:
            return Connection(loop, self._lost, alarms=alarms)

        try:
            async with asyncio.timeout(connect_s):
                if address.socket:
                    _, connection = await loop.create_unix_connection(make, address.socket)
                else:
                    _, connection = await loop.create_connection(make, address.host, address.port, ssl=self._tls)
        except BaseException as error:
            self._vacate()
            if isinstance(error, FOREIGN):
                raise translate(error) from error
            raise
        self._lent.add(connection)
        if self._closed:
            self.release(connection)
            raise _closed()
        return connection

    def _lost(self, connection: Connection) -> None:
        try:
            self._idle.remove(connection)
        except ValueError:
            return  # lent: its exchange ends with an error, and then it is released
        self._vacate()

    def _drop(self, connection: Connection) -> None:
        connection.abort()
        self._vacate()

    def _vacate(self) -> None:
        if (waiter := self._next_waiter()) is not None and not self._closed:
            waiter.set_result(None)
        else:
            self._taken -= 1

    def _next_waiter(self) -> "asyncio.Future[Connection | None] | None":
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                return waiter
        return None

    def _sweep_later(self) -> None:
        if self._sweeper is None:
            self._sweeper = asyncio.get_running_loop().call_later(self._keepalive_s, self._sweep)

    def _sweep(self) -> None:
        self._sweeper = None
        now_s = self._now()
        while self._idle and now_s - self._idle[0].idle_since_s >= self._keepalive_s:
            self._drop(self._idle.popleft())
        if self._idle:
            self._sweep_later()

    def _first_now(self) -> float:
        """The loop's time; whoever made the pool may not have been on the loop."""
        self._now = asyncio.get_running_loop().time
        return self._now()


def _closed() -> UpstreamUnavailable:
    return UpstreamUnavailable("The connections to the model's server are closed.")

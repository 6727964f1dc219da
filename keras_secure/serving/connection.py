"""A connection of HTTP that nobody can keep open without asking something."""

import asyncio
from typing import Any


def http_protocol(seconds: float) -> Any:
    """Makes uvicorn's protocol of a connection close what brings no request, or reads no answer.

    uvicorn itself waits for the first head of a request for ever, also where it comes byte by byte,
    and for clients that ask one thing after the other and read none of the answers. As many such
    connections as there may be would keep everybody out, without any credentials.

    Args:
        seconds: How long a connection may be open without a whole head of a request, from its
            beginning or from the last answer, and how long answers may wait to be read.

    Returns:
        The class, to be given to `uvicorn.Config` as `http`.
    """
    from uvicorn.protocols.http.h11_impl import H11Protocol

    class Protocol(H11Protocol):
        _patience: asyncio.TimerHandle | None = None
        _unread: asyncio.TimerHandle | None = None

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._wait_for_request()

        def on_response_complete(self) -> None:
            super().on_response_complete()
            self._wait_for_request()

        def connection_lost(self, exc: Exception | None) -> None:
            super().connection_lost(exc)
            self._stop_waiting()
            self._was_read()

        def pause_writing(self) -> None:
            super().pause_writing()
            self._was_read()
            self._unread = self.loop.call_later(seconds, self.transport.abort)

        def resume_writing(self) -> None:
            super().resume_writing()
            self._was_read()

        def _was_read(self) -> None:
            if self._unread is not None:
                self._unread.cancel()

        def _wait_for_request(self) -> None:
            self._stop_waiting()
            self._patience = self.loop.call_later(seconds, self._give_up)

        def _stop_waiting(self) -> None:
            if self._patience is not None:
                self._patience.cancel()

        def _give_up(self) -> None:
            # What is being answered has a time limit of its own, and is waited for anew after it.
            if self.cycle is None or self.cycle.response_complete:
                # Closing waits until everything was read, which may be never.
                if self.transport.get_write_buffer_size():
                    self.transport.abort()
                else:
                    self.transport.close()

    return Protocol

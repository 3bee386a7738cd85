"""What stands for a session: says what the session says of itself."""

from __future__ import annotations

from depth_node.backends.interface import Session


class SessionUser:
    """Name, device and precision of a session that it uses."""

    def __init__(self, session: Session) -> None:
        self._session = session

    @property
    def name(self) -> str:
        """See `Loaded`."""
        return self._session.name

    @property
    def device(self) -> str:
        """See `Loaded`."""
        return self._session.device

    @property
    def precision(self) -> str:
        """See `Loaded`."""
        return self._session.precision

    def close(self) -> None:
        """See `Loaded.close`."""
        self._session.close()

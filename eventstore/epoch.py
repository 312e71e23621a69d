"""A new epoch: after a restore, the log goes on beyond every position that anyone has seen."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from eventstore.errors import Invalid
from eventstore.event import EPOCH_TYPE, Context, Event, Header, Position, Tip, encode_context, seal
from eventstore.log.base import EventLog
from eventstore.projection import Change, Rows


async def begin_epoch(
    log: EventLog,
    seen: Position,
    project: Callable[[Sequence[Change]], Rows],
    now: str,
    salt: bytes,
    reason: str,
) -> Event:
    """Append the record of a new epoch at the position after `seen`; those between stay empty for ever.

    `seen` is the highest position that anyone was given: the stream's, or a cursor's. Raises Invalid when the log
    is already there, and so nothing was lost.
    """
    await log.take()
    try:
        snapshot = await log.look()
        tip = snapshot.tip
        if seen <= tip.position:
            raise Invalid(
                f"the log is at {tip.position}, and {seen} is not beyond it: there is nothing to mend"
            )
        event = _record(tip, seen, max(snapshot.at or now, tip.at), salt, reason)
        rows = project([Change(event, None)])
    except BaseException:
        await log.release()
        raise
    await log.append([event], rows)
    return event


def _record(tip: Tip, seen: Position, at: str, salt: bytes, reason: str) -> Event:
    position = seen + 1
    id = str(position)
    header = Header(position, EPOCH_TYPE, id, "created", at, position, 0, "POST", f"{EPOCH_TYPE}/{id}")
    data = msgspec.json.encode(
        {
            "resourceType": EPOCH_TYPE,
            "id": id,
            "meta": {"versionId": id, "lastUpdated": at},
            "after": tip.position,
            "seen": seen,
            "hash": tip.hash.hex(),
        }
    )
    return seal(header, data, encode_context(Context(reason=reason)), salt, tip.hash)

"""Reads a whole stream from its beginning with plain nats-py."""

from nats.aio.client import Client
from nats.js import api

from tests.soak.raw import Message

_PATIENCE = 20.0  # seconds without a message that the stream says it holds


async def whole(client: Client, stream: str) -> list[Message]:
    """Every message of a stream. RuntimeError where the stream no longer holds its first: its bound was too small for the run."""
    js = client.jetstream()
    state = (await js.stream_info(stream)).state
    if state.messages == 0:
        return []
    if state.first_seq > 1:
        raise RuntimeError(f"stream {stream} begins at message {state.first_seq}: its max_bytes is too small for so long a run")
    config = api.ConsumerConfig(ack_policy=api.AckPolicy.NONE, deliver_policy=api.DeliverPolicy.ALL)
    subscription = await js.pull_subscribe("", stream=stream, config=config)
    found: list[Message] = []
    while not found or found[-1].sequence < state.last_seq:
        for message in await subscription.fetch(500, timeout=_PATIENCE):
            meta = message.metadata
            headers = dict(message.headers or {})
            found.append(Message(meta.sequence.stream, meta.timestamp.timestamp(), message.subject, headers, message.data))
    await subscription.unsubscribe()
    return found


async def last(client: Client, stream: str) -> int:
    """The last sequence of a stream."""
    return int((await client.jetstream().stream_info(stream)).state.last_seq)

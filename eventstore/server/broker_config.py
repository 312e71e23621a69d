"""The embedded broker's configuration: who may do what, and why there are two accounts."""

from __future__ import annotations

from pathlib import Path

HOST = "127.0.0.1"
MEMORY_STORE_BYTES_MAX = 64 * 1024 * 1024
LOG_BYTES_MAX = 8 * 1024 * 1024
LOG_FILES_MAX = 3

PUBLISHER = "publisher"
PUBLISHER_INBOX = "_QUIRE"
"""Not `_INBOX`, which everyone may read."""
DELIVER = "deliver"
"""Push consumers may also deliver to `deliver.>`."""

PUBLISHER_MAY = ("quire.>", "$JS.>", f"{PUBLISHER_INBOX}.>")
ANYONE_MAY_ASK = (
    "$JS.API.INFO", "$JS.API.STREAM.INFO.*", "$JS.API.STREAM.NAMES", "$JS.API.STREAM.LIST",
    "$JS.API.STREAM.MSG.GET.*", "$JS.API.DIRECT.GET.*", "$JS.API.DIRECT.GET.*.>",
    "$JS.API.CONSUMER.CREATE.*", "$JS.API.CONSUMER.CREATE.*.>", "$JS.API.CONSUMER.DURABLE.CREATE.*.*",
    "$JS.API.CONSUMER.INFO.*.*", "$JS.API.CONSUMER.NAMES.*", "$JS.API.CONSUMER.LIST.*",
    "$JS.API.CONSUMER.MSG.NEXT.*.*", "$JS.API.CONSUMER.DELETE.*.*", "$JS.ACK.>", "$JS.FC.>",
)  # fmt: skip
ANSWERED_OFTEN = ("$JS.API.CONSUMER.MSG.NEXT.*.*", "$JS.API.DIRECT.GET.*", "$JS.API.DIRECT.GET.*.>")
"""One of these requests may have many answers."""
ANYONE_MAY_READ = ("quire.>", "_INBOX.>", f"{DELIVER}.>")


def configuration(home: Path, name: str, port: int, password: str) -> str:
    """The server's configuration: JetStream in our directory, and two accounts.

    Subject permissions alone would not keep the stream clean: the server writes the answer to any JetStream request
    to whatever reply subject the request names, `quire.x` too (measured, 2.15.1). So everyone else is in an account
    of their own, which has the requests and the messages of ours that they may use, and no subject of the stream.
    """
    services = [(ask, "stream" if ask in ANSWERED_OFTEN else "singleton") for ask in ANYONE_MAY_ASK]
    exports = [f'{{ service: "{ask}", response_type: {kind} }}' for ask, kind in services]
    exports += [f'{{ stream: "{read}" }}' for read in ANYONE_MAY_READ]
    imports = [f'{{ service: {{ account: QUIRE, subject: "{ask}" }} }}' for ask in ANYONE_MAY_ASK]
    imports += [f'{{ stream: {{ account: QUIRE, subject: "{read}" }} }}' for read in ANYONE_MAY_READ]
    return f"""# Written by Quire at every start; changes here are lost.
listen: "{HOST}:{port or -1}"
server_name: {_quoted(name)}
pid_file: {_quoted(home / "nats.pid")}
ports_file_dir: {_quoted(home)}
log_file: {_quoted(home / "nats.log")}
logfile_size_limit: {LOG_BYTES_MAX}
logfile_max_num: {LOG_FILES_MAX}
jetstream {{ store_dir: {_quoted(home)}, max_memory_store: {MEMORY_STORE_BYTES_MAX} }}
accounts {{
  QUIRE {{
    jetstream: enabled
    users: [{{
      user: {PUBLISHER}, password: {_quoted(password)}
      permissions: {{ publish: {_list(PUBLISHER_MAY)}, subscribe: ">" }}
    }}]
    exports: [
      {_lines(exports)}
    ]
  }}
  PUBLIC {{
    users: [{{
      user: anyone, password: ""
      permissions: {{ publish: {_list(ANYONE_MAY_ASK)}, subscribe: ">" }}
    }}]
    imports: [
      {_lines(imports)}
    ]
  }}
}}
no_auth_user: anyone
"""


def _lines(items: list[str]) -> str:
    return "\n      ".join(items)


def _list(items: tuple[str, ...]) -> str:
    return "[" + ", ".join(f'"{item}"' for item in items) + "]"


def _quoted(text: str | Path) -> str:
    return '"' + str(text).replace("\\", "\\\\").replace('"', '\\"') + '"'

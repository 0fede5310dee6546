"""Follows one HTTP flow and says what each request would do.

Keys of `Facts.values`: facts/words/http.py; besides them `text`, for detectors: target, header lines but for those that
carry the client's credentials, and the body as it reads when opened.

The handshake of a WebSocket has the method WEBSOCKET besides its own: who may not speak in one need not open one, and
masks for one are in force from its beginning. A message of a client in it is a write by that method, to host and path
of the handshake, with the handshake's header lines; `text` and `json` are its own.

Unknown: of a body that is too long to be judged whole, or in a coding that cannot be opened, all it says; of a path
with more readings than MAX_READINGS, `path`; of a document that says it is JSON and cannot be read as such, or is one
in another form (YAML, XML, CBOR, ...), `json`; of a GraphQL operation that is only named, `graphql`; of a form that is
posted and not known, what a field may change: `method` and `effect`.

    reader     the flow; what it was asked before
    request    one request
    body       what its body says, by its type
    documents  what is in a document
    paths      the ways its path can be read
    hosts      the ways its host can be written
"""

from appliance.facts.http.reader import open

__all__ = ["open"]

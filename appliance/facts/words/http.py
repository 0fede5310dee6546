"""The words of `when` for HTTP.

    key      values
    effect   what the method does: read (GET HEAD OPTIONS TRACE), write (all others), delete
    method   GET, POST, ...; what an override in a header, the query, a form or JSON says counts as well. WEBSOCKET:
             what a client says in one, and (besides GET) the request that opens it
    host     who the request is for, without the port, in small letters; an address also as addresses are written
    port     the port, where the request names one; of CONNECT always
    path     the path, in every form a server might read it: as written, decoded, with dots, slashes, `;` resolved
    query    name=value, decoded, one for each of the query; of a name like `a.b` also `a_b=value`, as PHP reads it
    header   name: value, the name in small letters; of a name like `x_y` also `x-y: value`, as CGI and WSGI read it
    content  the media type of the body, in small letters
    field    name=value of a form in the body, or of a part of a multipart one; names as in `query`
    file     names of files in a multipart body
    json     leaves of a JSON body: {"$.amount": {gt: 10000}, "$..sku": "X-*"}; of a mask: those of answers, and what
             may have some in another form (CSV, XML, YAML, a script's call, parts) is not shown
    sql      statements in the body or the query: {field: "$.query", dialect: postgres, effect: drop}; `field` is the
             path of a leaf, a name in a form or the query, or `body`; the rest is as for connections of the dialect
    graphql  query, mutation or subscription, and what it asks for: mutation.deleteUser

Source: RFC 9110. Where a path can be read in more ways than one, `block` takes any and `allow` needs all of them.
"""

from collections.abc import Mapping

from appliance.facts.words import Key

EFFECTS = ("read", "write", "delete")
HOST = r"[^:]+|\[[^\]]*\]|.*\*.*"  # no port behind it
PAIR = r".*[=*].*"
HEADER = r"[^A-Z:*]*(?::? ?\*|: ).*"
ASKED = r"(?:query|mutation|subscription)(?:\..+)?|.*\*.*"

KEYS: Mapping[str, Key] = {
    "effect": Key("word", "what the method does", EFFECTS),
    "method": Key("text", "the method, overrides included", form="[^a-z]+", example="POST"),
    "host": Key("text", "who the request is for, without the port", host=True, form=HOST, example="api.example"),
    "port": Key("number", "the port, where the request names one; of CONNECT always"),
    "path": Key("text", "the path, in every form a server might read it", form="[/*].*", example="/v1/*"),
    "query": Key("text", "name=value of the query", form=PAIR, example="debug=*"),
    "header": Key("text", "name: value, the name in small letters", form=HEADER, example="x-team: *"),
    "content": Key("text", "the media type of the body", form="[^A-Z]+", example="application/json"),
    "field": Key("text", "name=value of a form in the body", form=PAIR, example="role=admin"),
    "file": Key("text", "names of files in a multipart body"),
    "json": Key("leaves", "leaves of a JSON body, by their paths", cells="json"),
    "sql": Key("statements", "what statements in it would do: where they stand, their dialect, its conditions"),
    "graphql": Key(
        "text",
        "query, mutation or subscription, and with a dot what it asks for",
        form=ASKED,
        example="mutation.deleteUser",
    ),
}

"""A small catalogue made by hand, and one word for reading a text in it."""

from appliance.facts.catalog import Attribute, Catalog, Relation, State, View
from appliance.facts.sql import Reading, World, read

PLAIN = World()


def table(oid: int, name: str, columns: str, schema: str = "public", *, kind: str = "r", rules: bool = False, triggers: bool = False) -> Relation:
    attributes = tuple(Attribute(n, c, 25) for n, c in enumerate(columns.split(), 1))
    return Relation(oid, schema, name, kind, rules, triggers, attributes)


RELATIONS = [
    table(1, "users", "id name ssn email"),
    table(2, "orders", "id user_id note"),
    table(3, "v", "id number", kind="v"),
    table(4, "opaque", "id", kind="v"),
    table(5, "parent", "id secret"),
    table(6, "child", "id secret extra"),
    table(7, "logged", "id", triggers=True),
    table(8, "users", "ssn", schema="evil"),
    table(9, "users", "ssn", schema="pg_temp_3"),
    table(10, "odd.name", 'id "q'),
    table(11, "vv", "a b", kind="v"),
    table(12, "pg_stats", "most_common_vals", schema="pg_catalog", kind="v"),
    table(13, "pg_class", "oid relname", schema="pg_catalog"),
    table(14, "broken", "x y", kind="v"),
]
VIEWS = [
    View(3, " SELECT users.id, users.ssn AS number FROM users WHERE users.name IS NOT NULL;", (1,)),
    View(4, " SELECT peek(users.id) AS id FROM users;", (1,)),
    View(11, " SELECT v.number AS a, upper(v.number) || o.note AS b FROM v JOIN orders o ON o.id = v.id;", (3, 2)),
    View(14, " SELECT something the grammar cannot read", (1,)),
]
CATALOG = Catalog(
    State('"$user", public', "acme", ""),
    RELATIONS,
    inherits=[(6, 5)],
    views=VIEWS,
    schemas=["public", "evil", "pg_catalog", "pg_temp_3"],
    functions=[("public", "lower"), ("evil", "upper")],
    operators=[("evil", "=")],
    types=["checked"],
    path=("public",),
)
KNOWN = World(user="acme", catalog=CATALOG, needs_catalog=True)


def words(text: str, key: str, world: World = PLAIN) -> str:
    """Return the words of a key as one sorted text."""
    return " ".join(sorted(read(text, world).values[key]))


def known(text: str, world: World = PLAIN) -> Reading:
    """Return the reading of a text in which nothing is unknown."""
    reading = read(text, world)
    assert not reading.unknown, reading.why
    return reading

"""A small catalogue made by hand, and words for reading a text in it."""

from appliance.facts.mysql.catalog import Cascade, Catalog, Field, Relation
from appliance.facts.mysql.lexer import Mode
from appliance.facts.mysql.read import read
from appliance.facts.mysql.reading import Output, Reading
from appliance.facts.mysql.world import World

MODE = Mode()
PLAIN = World(MODE, "shop")


def table(name: str, columns: str, schema: str = "shop", **more: object) -> Relation:
    """`columns`: names; one with "-" before it is invisible, one with "=a,b" behind it is generated from a and b."""
    fields = []
    for word in columns.split():
        name_, _, made = word.lstrip("-").partition("=")
        fields.append(Field(name_, word.startswith("-"), tuple(made.split(",")) if made else ()))
    return Relation((schema, name), tuple(fields), **more)  # type: ignore[arg-type]


RELATIONS = [
    table("users", "id name ssn email"),
    table("orders", "id user_id note"),
    table("users", "id ssn", "other"),
    table("made", "id ssn folded=ssn"),
    table("remade", "id ssn first=ssn second=first third=second,id"),
    Relation(("shop", "cut"), (Field("id"), Field("ssn"), Field("huge", made_of=("id",), cut=True))),
    table("veiled", "id -secret"),
    table("logged", "id ssn", triggers=True),
    table("merged", "id ssn", foreign=True),
    table("odd.name", 'id q"q'),
    table("parent", "id a"),
    table("child", "id parent_id"),
    table("grandchild", "id"),
    table("v", "id number", view="select `shop`.`users`.`id` AS `id`,`shop`.`users`.`ssn` AS `number` from `shop`.`users` where `shop`.`users`.`name` <> 'x'"),
    table("vv", "a b", view="select `v`.`number` AS `a`,concat(ucase(`v`.`number`),`o`.`note`) AS `b` from (`shop`.`v` join `shop`.`orders` `o` on(`o`.`id` = `v`.`id`))"),
    table("united", "x", view="select `shop`.`users`.`ssn` AS `x` from `shop`.`users` union select `shop`.`orders`.`note` AS `note` from `shop`.`orders`"),
    table("hidden", "x y", view=""),
    table("calls", "x", view="select `shop`.`peek`(`shop`.`users`.`id`) AS `x` from `shop`.`users`"),
    table("broken", "x", view="select something no grammar can read"),
    table("round", "x", view="select `round`.`x` AS `x` from `shop`.`round`"),
]  # fmt: skip
CATALOG = Catalog(
    RELATIONS,
    [Cascade(("shop", "parent"), ("shop", "child"), True, False), Cascade(("shop", "child"), ("shop", "grandchild"), True, True)],
)
KNOWN = World(MODE, "shop", CATALOG, True)


def words(text: str, key: str, world: World = PLAIN) -> str:
    """Return the words of a key as one sorted text."""
    return " ".join(sorted(read(text, world).values[key]))


def known(text: str, world: World = PLAIN) -> Reading:
    """Return the reading of a text in which nothing is unknown."""
    reading = read(text, world)
    assert not reading.unknown, reading.why
    return reading


def places(text: str, world: World = KNOWN) -> list[str]:
    """Return what each column of the first result holds; "?" behind what may hold more."""
    outputs: tuple[Output, ...] | None = read(text, world).results[0]
    assert outputs is not None
    return [" ".join(sorted(o.names)) + ("" if o.sure else "?") for o in outputs]


__all__ = ["CATALOG", "KNOWN", "MODE", "PLAIN", "Mode", "World", "known", "places", "read", "words"]

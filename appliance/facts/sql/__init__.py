"""SQL of PostgreSQL: text to what it would do. Pure; knows neither the wire nor rules.

The grammar is PostgreSQL's own (libpg_query, PostgreSQL 18), so a statement is split, quoted and nested
exactly as the server does it. What the tree alone cannot show (triggers, rules, views, domains, a user's own
overload of a built-in) comes from the catalogue in `World`, as far as that is given.
"""

from appliance.facts.sql.read import read
from appliance.facts.sql.reading import ALL, Reading, Step
from appliance.facts.sql.world import World

__all__ = ["ALL", "Reading", "Step", "World", "read"]

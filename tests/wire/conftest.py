"""The tables that the tests with a real server use, in a schema of their own."""

import pytest

from appliance.lab.servers import Postgres
from appliance.model import Address

SCHEMA = """
create schema wire;
create table wire.people (id int primary key, name text, ssn text, born date, amount numeric(12,2), notes json,
                          tags text[], raw bytea, ok bool, score float8, key uuid, seen timestamptz, ip inet);
insert into wire.people
select i, 'name' || i, '123-45-' || lpad(i::text, 4, '0'), date '1980-01-01' + i, i * 1.5, json_build_object('n', i),
       array['a' || i, null, 'x "y"'], convert_to('raw' || i, 'UTF8'), i % 2 = 0, i / 3.0,
       md5(i::text)::uuid, timestamptz '2020-01-01 00:00:00+00' + i * interval '1 hour', inet '10.0.0.1'
from generate_series(1, 20) i;
insert into wire.people (id) values (100);
create table wire.loads (a int, b text);
create table wire.checked (a int check (a < 100), secret text);
create table wire.parent (id int primary key);
create table wire.child (id int references wire.parent deferrable initially deferred);
create function wire.boom() returns trigger language plpgsql as $$begin raise 'boom'; end$$;
create table wire.trapped (a int);
create trigger boom before insert on wire.trapped for each statement execute function wire.boom();
create function wire.noisy(v text) returns text language plpgsql as $$begin raise notice 'saw %', v; return v; end$$;
create function wire.echo(text) returns text language sql as 'select $1';
grant usage on schema wire to public;
grant all on all tables in schema wire to public;
"""


@pytest.fixture(scope="session")
def people(postgres: Postgres) -> Address:
    """The address of a server that has the tables."""
    postgres.admin(SCHEMA, "shop")
    return Address("127.0.0.1", postgres.port)

-- What the corner cases need beside tests/data/shop.sql.
create domain code as text;
create table vault (id int primary key, ssn code, badge int, born date, token uuid, pay numeric, flags bool[]);
insert into vault values (1, '123-45-6789', 1234567, '1970-01-02', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', 12.5, '{t,f}');
create unique index on users (ssn);
create table quotes (id int, ssn text, note text);
insert into quotes values (1, '123-45-6789', 'a,b'), (2, E'x\n123-45-6789"y', 'c"d'), (3, null, ''), (4, E'987-65-4320\t\\', E'e\tf');
create view quote_view as select id, note, ssn from quotes;
create table late (id int primary key, ssn text unique deferrable initially deferred);
insert into late values (1, '123-45-6789'), (2, '987-65-4320');
create table typed (id int primary key, ssn text, i2 int2, i8 int8, f8 float8, n numeric, b bool, t text, v varchar(9), c char(3), d date,
                    ts timestamp, tz timestamptz, iv interval, u uuid, j json, jb jsonb, by bytea, ip inet, mac macaddr, ia int[], ta text[],
                    m money, r int4range, x xml, p point, bits bit(4), o oid, na numeric[], jba jsonb[]);
insert into typed values (1, '123-45-6789', 2, 8000000000, 1.5, 12.340, true, 'text', 'vc', 'ch', '2026-05-05', '2026-05-05 10:00',
                          '2026-05-05 10:00+00', '1 day 2 hours', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', '{"a": [1, null]}', '{"b": "c"}',
                          '\x00ff', '10.1.2.3/24', '08:00:2b:01:02:03', '{{1,2},{3,4}}', '{a,NULL,"b c"}', 9.99, '[1,5)', '<a/>', '(1,2)',
                          '1010', 77, '{1.5,NULL}', array['{"z": 1}'::jsonb]);
insert into typed (id) values (2);
create table dept (id int primary key, name text);
create table worker (id int, dept int references dept on delete set null on update cascade, ssn text, check (dept is not null and dept < 2));
insert into dept values (1, 'one');
insert into worker values (1, 1, '123-45-6789');
create function tell() returns trigger language plpgsql as $$ begin raise notice 'row %', new; return new; end $$;
create table loud (id int, ssn text);
create trigger tell before insert or update on loud for each row execute function tell();
insert into loud values (1, '123-45-6789');
analyze;

-- What the cases of tests/peer and tests/evasion speak of: a shop. Owned by acme, the vendor's role.
set role acme;
create table users (id int primary key, name text not null, ssn text, email text, card text, salary numeric,
                    tags text[], profile jsonb, constraint adult check (salary is null or salary >= 0));
insert into users values
  (1, 'Ada',   '123-45-6789', 'ada@example.com',   '4111 1111 1111 1111', 5000, '{a,123-45-6789}', '{"ssn": "123-45-6789", "n": 1}'),
  (2, 'Grace', '987-65-4320', 'grace@example.com', '5500-0000-0000-0004', 6000, '{b}',             '{"n": 2}'),
  (3, 'Edsger', null,          null,                null,                  null, null,              null);
create table orders (id int primary key, user_id int references users, note text, total numeric);
insert into orders values (1, 1, 'first', 10.5), (2, 1, 'second', 20), (3, 2, 'third', 30);
create view user_list as select id, name, ssn as number from users;
create view user_calc as select id, lower(ssn) as folded from users;
create materialized view user_copy as select id, ssn from users;
create table events (id int, ssn text, at date) partition by range (at);
create table events_2026 partition of events for values from ('2026-01-01') to ('2027-01-01');
insert into events values (1, '123-45-6789', '2026-05-05');
create table people (ssn text);
create table staff (badge int) inherits (people);
insert into staff values ('123-45-6789', 7);
create function peek(n int) returns text language sql as 'select ssn from public.users where id = n';
create schema other;
create table other.users (id int, ssn text);
insert into other.users values (1, 'public knowledge');

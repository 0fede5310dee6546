-- What the cases with a MariaDB speak of: the same shop. acme, the vendor's role, has all rights in it.
create table users (id int primary key, name varchar(40) not null, ssn char(11), email varchar(60), card varchar(30),
                    salary decimal(10,2), profile json, constraint adult check (salary is null or salary >= 0));
insert into users values
  (1, 'Ada',    '123-45-6789', 'ada@example.com',   '4111 1111 1111 1111', 5000, '{"ssn": "123-45-6789", "n": 1}'),
  (2, 'Grace',  '987-65-4320', 'grace@example.com', '5500-0000-0000-0004', 6000, '{"n": 2}'),
  (3, 'Edsger', null,          null,                null,                  null, null);
create table orders (id int primary key, user_id int, note text, total decimal(10,2), ssn char(11) not null default 'x',
                     foreign key (user_id) references users (id));
insert into orders (id, user_id, note, total) values (1, 1, 'first', 10.5), (2, 1, 'second', 20), (3, 2, 'third', 30);
create view user_list as select id, name, ssn as number from users;
create view user_calc as select id, lower(ssn) as folded from users;
create function peek(n int) returns text reads sql data return (select ssn from users where id = n);
create procedure two(n int) reads sql data begin select id, ssn from users where id = n; select name from users where id = n; end;
create database other;
create table other.users (id int, ssn varchar(20));
insert into other.users values (1, 'public knowledge');

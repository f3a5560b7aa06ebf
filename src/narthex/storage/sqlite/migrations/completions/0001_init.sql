-- An account by a short number: it stands in every row and in every index.
create table owner(
  n integer primary key,
  account_id text not null unique,
  bytes integer not null default 0
) strict;

create table chat(
  n integer primary key autoincrement,
  id text not null unique,
  owner integer not null references owner(n),
  created_s integer not null,
  model text not null,
  metadata text not null,
  bytes integer not null
) strict;

create index chat_listed on chat(owner, created_s, n);
create index chat_aged on chat(created_s);

-- Apart, so that lists walk over small rows. Both are compressed JSON.
create table content(
  n integer primary key,
  answer blob not null,
  messages blob not null
) strict;

-- The model and each pair of the metadata, in the order of lists.
create table label(
  owner integer not null,
  name text not null,
  value text not null,
  created_s integer not null,
  n integer not null,
  primary key(owner, name, value, created_s, n)
) strict, without rowid;

-- Where a deleted one stood: whoever pages through the others goes on from there.
create table gone(
  id text primary key,
  owner integer not null,
  created_s integer not null,
  n integer not null
) strict, without rowid;

create index gone_aged on gone(created_s);

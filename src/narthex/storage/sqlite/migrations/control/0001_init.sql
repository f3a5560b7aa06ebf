create table account(
  id text primary key,
  name text not null unique,
  created_ms integer not null
) strict;

create table project(
  id text primary key,
  account_id text not null references account(id),
  name text not null,
  created_ms integer not null,
  unique(account_id, name)
) strict;

create table api_key(
  id text primary key,
  project_id text not null references project(id),
  digest blob not null unique check(length(digest) = 32),
  prefix text not null,
  name text not null,
  grants text not null check(json_valid(grants)),
  profile text not null,
  strict integer not null check(strict in (0, 1)),
  expires_ms integer,
  revoked_ms integer,
  created_ms integer not null
) strict;

create index api_key_project on api_key(project_id);
